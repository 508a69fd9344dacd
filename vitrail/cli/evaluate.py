"""`vitrail eval MODEL [DATA]`: measure a classifier on one split; --min-top1 is a gate.

A run remembers its data, seed and fractions: its own test split is the one it never trained on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.output import Output, table
from vitrail.cli.predict import check_numbers
from vitrail.errors import GateError, UsageError

if TYPE_CHECKING:
    from vitrail.classifier import Classifier
    from vitrail.data.sources import Source, Splits
    from vitrail.evaluation.record import Evaluation

app = app_of("vitrail eval")
WORST = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How pictures are read and computed."""

    batch_size: int = 64
    """Pictures at a time."""
    workers: int = 0
    """Processes that decode pictures."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: str = "float32"
    """auto, float32, bfloat16."""
    on_bad_file: Literal["stop", "skip"] = "stop"
    """Pictures that cannot be decoded."""
    max_pixels: int = 64_000_000
    """Larger pictures count as bad."""


@app.default
def evaluate(
    model: Path,
    data: str | None = None,
    /,
    *,
    split: str = "test",
    min_top1: float | None = None,
    out: Path | None = None,
    reading: Annotated[Reading | None, Parameter(name="*")] = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Measure a classifier on labelled pictures: accuracy, calibration, every class.

    Parameters
    ----------
    model
        A run directory or a model directory.
    data
        Pictures, as for vitrail train. Default: the data of the run.
    split
        train, val or test.
    min_top1
        Exit 7 where top-1 is below this share.
    out
        Folder for metrics.json, predictions.csv, confusion.csv, calibration.json; must not exist.
        Default for a run on its own data: RUN/eval/SPLIT.
    """
    reading = reading or Reading()
    check_numbers({"--batch-size": reading.batch_size, "--max-pixels": reading.max_pixels})
    if min_top1 is not None and not 0 <= min_top1 <= 1:
        raise UsageError(
            "VIT-202",
            f"--min-top1 {min_top1}: expected a share from 0 to 1.",
            hint="For 90 %: --min-top1 0.9",
        )
    if out is not None and out.exists():
        raise UsageError("VIT-206", f"{out} exists; it is not overwritten.", hint="Choose another")
    from vitrail.classifier import load
    from vitrail.cli.downloads import progress_of
    from vitrail.evaluation.on_data import split_of

    classifier = load(model, progress=progress_of(output))
    splits = data_of(model, data)
    source = split_of(splits, split, classifier.classes, str(model))
    found = measure(classifier, source, reading)
    folder = out or (model / "eval" / split if is_run(model) and data is None else None)
    if folder is not None:
        found.write(folder)
    output.result(found.document(), evaluation_lines(found, f"{splits.name} {split}", folder))
    if min_top1 is not None and found.top1 < min_top1:
        raise GateError(
            "VIT-701",
            f"--min-top1 {min_top1}: top-1 is {found.top1:.4f} on {found.n} pictures.",
            hint="Which classes are worst: vitrail report RUN",
        )
    return 0


def is_run(model: Path) -> bool:
    """Whether `model` is a run directory."""
    return (model / "run.json").is_file()


def data_of(model: Path, data: str | None) -> Splits:
    """The splits of `data`, made as the run made them; the run's own data where none is given.

    Raises UsageError VIT-208 where neither is known.
    """
    from vitrail.config import read_toml
    from vitrail.data.sources import open_data

    settings = read_toml(model / "config.toml") if is_run(model) else {}
    path = data or settings.get("data.path")
    if not path:
        raise UsageError(
            "VIT-208",
            f"{model} does not say which pictures to measure on.",
            hint=f"Name them: vitrail eval {model} DATA",
        )
    return open_data(
        str(path),
        val_fraction=settings.get("data.val_fraction", "auto"),
        test_fraction=settings.get("data.test_fraction", "auto"),
        seed=int(settings.get("seed", 0)),
    )


def measure(classifier: Classifier, source: Source, reading: Reading) -> Evaluation:
    """Run the classifier over every picture of `source`."""
    from vitrail.data.loader import make_loader
    from vitrail.device import pick_device, pick_precision
    from vitrail.evaluation.evaluate import evaluate as run

    device = pick_device(reading.device)
    precision, _ = pick_precision(reading.precision, device)
    loader = make_loader(
        source,
        classifier.preprocess,
        None,
        batch_size=reading.batch_size,
        seed=0,
        workers=reading.workers,
        on_bad_file=reading.on_bad_file,
        max_pixels=reading.max_pixels,
    )
    return run(
        classifier.model.to(device),
        loader.eval_batches(reading.batch_size),
        classifier.preprocess,
        classifier.classes or source.classes,
        temperature=classifier.temperature,
        device=device,
        precision=precision,
        source_id=source.source_id,
    )


def evaluation_lines(found: Evaluation, what: str, folder: Path | None) -> list[str]:
    """The evaluation for people."""
    low, high = found.interval
    lines = [
        f"{what}  {found.n} pictures, {found.images_per_s:,.0f} images/s",
        f"top-1  {found.top1:.4f}  (95 % {low:.4f}-{high:.4f})    top-5  {found.top5:.4f}",
        f"nll  {found.nll:.4f}    ece  {found.ece:.4f}    brier  {found.brier:.4f}    "
        f"macro-F1  {found.f1_macro:.4f}    balanced accuracy  {found.balanced_accuracy:.4f}",
    ]
    scores = found.class_scores
    order = sorted(
        (i for i in range(len(found.classes)) if scores.n[i]), key=lambda i: scores.f1[i]
    )
    rows = [
        [found.classes[i], str(int(scores.n[i]))]
        + [f"{float(column[i]):.3f}" for column in (scores.precision, scores.recall, scores.f1)]
        for i in order[:WORST]
    ]
    lines += ["worst classes", *table([["class", "n", "precision", "recall", "f1"], *rows])]
    return [*lines, f"wrote {folder}"] if folder else lines

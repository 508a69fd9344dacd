"""`vitrail eval MODEL [DATA]`: measure a classifier on one split; --min-top1 is a gate.

A run remembers its data, seed and fractions: its own test split is the one it never trained on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.eta import eta
from vitrail.cli.evaluation_lines import (
    calibration_lines,
    evaluation_lines,
    real_lines,
    robustness_lines,
)
from vitrail.cli.measuring import Reading, data_of, is_run, measure, outputs, say_notes, way_of
from vitrail.cli.output import Output
from vitrail.cli.predict import check_numbers
from vitrail.cli.read_as import ReadAs, load
from vitrail.errors import GateError, UsageError

if TYPE_CHECKING:
    from vitrail.classifier import Classifier
    from vitrail.data.sources import Source, Splits
    from vitrail.evaluation.record import Evaluation

app = app_of("vitrail eval")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured beside the usual figures."""

    calibrate: Annotated[bool, Parameter(negative=())] = False
    """Fit the model's temperature on the validation pictures and write it into model.json."""
    against: Path | None = None
    """Another model, measured on the same pictures: is one better, or is it chance?"""
    tta: Literal["none", "flip"] = "none"
    """flip: a picture and its mirror image make one prediction."""
    corruptions: str | None = None
    """Measure on corrupted pictures too: all, or names or groups: noise,blur,weather,digital."""
    severity: str | None = None
    """Of the corruptions: 3, or 1,3,5, or 1-5. Default: 1-5."""
    real_labels: Path | None = None
    """real.json of ImageNet ReaL, for the validation pictures of ImageNet."""


@app.default
def evaluate(
    model: Path,
    data: str | None = None,
    /,
    *,
    split: str = "test",
    min_top1: float | None = None,
    out: Path | None = None,
    asked: Annotated[Asked | None, Parameter(name="*")] = None,
    reading: Annotated[Reading | None, Parameter(name="*")] = None,
    read_as: Annotated[ReadAs | None, Parameter(name="*")] = None,
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
    reading, asked = reading or Reading(), asked or Asked()
    check(split, min_top1, out, reading, asked)
    from vitrail.cli.temperature import model_folder

    if asked.calibrate:
        model_folder(model)
    classifier = load(model, read_as, output)
    splits = data_of(model, data)
    say_notes(splits, output)
    job = Job(model, classifier, splits, split, reading, asked, output)
    is_own = is_run(model) and data is None
    found, more, lines = measured(job, is_own)
    folder = out or (model / "eval" / split if is_own else None)
    if folder is not None:
        found.write(folder, more)
    skipped = more["pictures"]["skipped"]
    first = evaluation_lines(found, f"{splits.name} {split}", skipped=skipped)
    wrote = [f"wrote {folder}"] if folder else []
    output.result(found.document(more), [*first, *lines, *wrote])
    if min_top1 is not None and found.top1 < min_top1:
        raise GateError(
            "VIT-701",
            f"--min-top1 {min_top1}: top-1 is {found.top1:.4f} on {found.n} pictures.",
            hint="Which classes are worst: vitrail report RUN",
        )
    return 0


def check(
    split: str, min_top1: float | None, out: Path | None, reading: Reading, asked: Asked
) -> None:
    """Raise UsageError VIT-202, VIT-206, VIT-280 to VIT-283 for what cannot be asked."""
    check_numbers({"--batch-size": reading.batch_size, "--max-pixels": reading.max_pixels})
    if min_top1 is not None and not 0 <= min_top1 <= 1:
        raise UsageError(
            "VIT-202",
            f"--min-top1 {min_top1}: expected a share from 0 to 1.",
            hint="For 90 %: --min-top1 0.9",
        )
    if out is not None and out.exists():
        raise UsageError("VIT-206", f"{out} exists; it is not overwritten.", hint="Choose another")
    if asked.severity is not None and asked.corruptions is None:
        raise UsageError(
            "VIT-282",
            f"--severity {asked.severity} has no effect without --corruptions.",
            hint="Add --corruptions all, or leave it out.",
        )
    if asked.calibrate and asked.tta != "none":
        raise UsageError(
            "VIT-282",
            "--calibrate and --tta: the temperature is stored for predictions of one view.",
            hint="Use one of them at a time.",
        )
    if asked.calibrate and split == "val":
        raise UsageError(
            "VIT-283",
            "--calibrate fits on the validation pictures, so it is not judged on them.",
            hint="Judge it on others: --split test",
        )
    if asked.corruptions is not None:
        from vitrail.evaluation.corruptions import corruptions_named, severities_of

        corruptions_named(asked.corruptions)
        severities_of(asked.severity or "1-5")


@dataclasses.dataclass(frozen=True)
class Job:
    """What is measured, on what, and how."""

    model: Path
    classifier: Classifier
    splits: Splits
    split: str
    reading: Reading
    asked: Asked
    output: Output


def measured(job: Job, is_own: bool) -> tuple[Evaluation, dict[str, Any], list[str]]:
    """The evaluation, further keys of metrics.json, and lines about them."""
    from vitrail.evaluation.real_labels import check_pictures, read_real, real_accuracy

    asked, output = job.asked, job.output
    labels = read_real(asked.real_labels) if asked.real_labels else None
    readable, skipped = pictures(job, job.split)
    source = in_classes_of(readable, job.classifier, job.model, output)
    if labels is not None:
        check_pictures(source, labels)
    rival = rival_of(job, readable) if asked.against else None
    more: dict[str, Any] = {"pictures": {"seen": len(source), "skipped": skipped}, "tta": asked.tta}
    if job.splits.notes:
        more["data_notes"] = list(job.splits.notes)
    lines: list[str] = []
    if asked.calibrate:
        found, lines = calibrated(job, source, is_own, more)
    else:
        found = measure(job.classifier, source, job.reading, asked.tta, output)
    if labels is not None:
        real = real_accuracy(found, labels)
        more["real"] = real.to_json()
        lines += real_lines(real)
    if rival is not None:
        lines += against(job, rival, found, more)
    if asked.corruptions is not None:
        lines += corrupt(job, source, found, more)
    return found, more, lines


def pictures(job: Job, split: str) -> tuple[Source, int]:
    """The pictures of a split that can be read, and how many cannot."""
    from vitrail.data.check import usable
    from vitrail.evaluation.on_data import split_of

    source = split_of(job.splits, split, (), str(job.model))
    if job.reading.on_bad_file == "stop":
        return source, 0
    source, bad = usable(source, max_pixels=job.reading.max_pixels, workers=job.reading.workers)
    for name, reason in bad:
        job.output.note(f"left out  {name}: {reason}")
    return source, len(bad)


def in_classes_of(source: Source, classifier: Classifier, name: Path, output: Output) -> Source:
    """`source` labelled in the classes of a model. Raises ModelError VIT-403."""
    from vitrail.evaluation.on_data import relabelled

    if not classifier.classes:
        output.note(
            f"{name} does not name its classes: its outputs are taken in the order of the folders"
        )
    return relabelled(source, classifier.classes, str(name))


def calibrated(
    job: Job, source: Source, is_own: bool, more: dict[str, Any]
) -> tuple[Evaluation, list[str]]:
    """Fit the temperature on validation, judge it on `source`, and only then store it."""
    from vitrail.cli.temperature import model_folder, store
    from vitrail.evaluation.calibrate import calibration_of, fit_temperature

    classifier = job.classifier
    if not is_run(job.model):
        job.output.note(
            f"val is what {job.splits.name} holds out now; a temperature is only right where the "
            "model was not trained on these pictures"
        )
    val = in_classes_of(pictures(job, "val")[0], classifier, job.model, job.output)
    fitted = outputs(classifier, val, job.reading, job.output)
    old, new = classifier.temperature, fit_temperature(fitted.logits, fitted.labels)
    found = calibration_of(fitted.scored(old), fitted.scored(new), "val")
    judged = outputs(classifier, source, job.reading, job.output)
    before, after = judged.scored(old), judged.scored(new)
    more["calibration"] = {
        **found.to_json(),
        "judged": {"nll_before": before.nll, "nll": after.nll,
                   "ece_before": before.ece, "ece": after.ece},
    }  # fmt: skip
    said = store(model_folder(job.model), found, {job.split: after} if is_own else {})
    classifier.temperature = new
    return after, [*calibration_lines(found, before, after), *said]


@dataclasses.dataclass(frozen=True)
class Rival:
    """The other model of --against, and the pictures in its classes."""

    model: Path
    classifier: Classifier
    source: Source


def rival_of(job: Job, source: Source) -> Rival:
    """Load the other model before anything is computed. Raises ModelError VIT-403."""
    other = job.asked.against or job.model
    rival = load(other, None, job.output)
    return Rival(other, rival, in_classes_of(source, rival, other, job.output))


def against(job: Job, rival: Rival, found: Evaluation, more: dict[str, Any]) -> list[str]:
    """Another model on the same pictures."""
    from vitrail.evaluation.paired import compare, sentences

    theirs = measure(rival.classifier, rival.source, job.reading, job.asked.tta, job.output)
    if len(theirs.classes) != len(found.classes):
        job.output.note(
            f"{rival.model} chooses among {len(theirs.classes)} classes, "
            f"{job.model} among {len(found.classes)}: nll does not compare like with like"
        )
    comparison = compare(found, theirs)
    more["against"] = {"model": str(rival.model), **comparison.to_json()}
    low, high = theirs.interval
    return [
        f"against {rival.model}  top-1  {theirs.top1:.4f}  (95 % {low:.4f}-{high:.4f})    "
        f"nll  {theirs.nll:.4f}",
        *sentences(comparison, str(job.model), str(rival.model)),
    ]


def corrupt(job: Job, source: Source, found: Evaluation, more: dict[str, Any]) -> list[str]:
    """The model on corrupted pictures."""
    from vitrail.evaluation.corruptions import corruptions_named, severities_of
    from vitrail.evaluation.robustness import robustness

    names = corruptions_named(job.asked.corruptions or "all")
    levels = severities_of(job.asked.severity or "1-5")
    total = len(source) * len(names) * len(levels)
    job.output.note(
        f"{len(names)} corruptions at {len(levels)} severities of {len(source):,} pictures: "
        f"{total:,} predictions"
    )
    way = way_of(job.classifier, source, job.reading, job.asked.tta)
    with eta(job.output, "corrupted pictures") as tell:
        result = robustness(
            way.model,
            way.batches(),
            job.classifier.preprocess,
            names,
            levels,
            device=way.device,
            precision=way.precision,
            progress=lambda done: tell(done, total),
        )
    more["corruptions"] = {"clean_top1": found.top1, **result.to_json()}
    return robustness_lines(result, found.top1)

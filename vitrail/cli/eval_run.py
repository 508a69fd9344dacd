"""A classifier shown the pictures of a split: what eval, probe and explain share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitrail.cli.eta import Tell, eta
from vitrail.cli.output import Output
from vitrail.errors import UsageError
from vitrail.folder import Folder

if TYPE_CHECKING:
    from vitrail.classifier import Classifier
    from vitrail.data.loading.batch import Batch
    from vitrail.data.sources.examples import Examples
    from vitrail.data.sources.open_data import Source, Splits
    from vitrail.evaluation.eval_set import Opened
    from vitrail.evaluation.evaluate import Outputs
    from vitrail.evaluation.record import Evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeOptions:
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


def is_run(model: Path) -> bool:
    """Whether `model` is a run directory."""
    return Folder(model).has("run.json")


def opened_for(
    model: Path, known: Examples | str, data: str | None, split: str, *, draw: bool = False
) -> Opened:
    """`data` to judge a model on, the run's own where none is given. known: what it was trained on.
    draw: hold out what other data lacks, to fit something on it.

    Raises UsageError VIT-208 where no data is known, and as `open_own` and `open_given`.
    """
    from vitrail.evaluation.eval_set import known_of, open_given, open_own

    if data is not None:
        return open_given(
            data, split, known_of(model, known) if is_run(model) else known, draw=draw
        )
    if not is_run(model):
        raise UsageError(
            "VIT-208",
            f"{model} does not say which pictures to measure on.",
            hint=f"Name them: vitrail eval {model} DATA",
        )
    return open_own(model, split)


def say_notes(splits: Splits, output: Output) -> None:
    """What of the data is left out or was told by names, a line each."""
    for note in splits.notes:
        output.note(f"data: {note}")


@dataclasses.dataclass(frozen=True)
class Way:
    """A model on its device and the pictures it is shown."""

    model: Any
    source: Source
    loader: Any
    device: Any
    precision: str
    batch_size: int

    def batches(self, tell: Tell = lambda done, total: None) -> Iterator[Batch]:
        """Every picture once, in order; `tell` hears how many there were."""
        done = 0
        for batch in self.loader.eval_batches(self.batch_size):
            yield batch
            done += len(batch.images)
            tell(done, len(self.source))


def way_of(
    classifier: Classifier, source: Source, reading: DecodeOptions, tta: str = "none"
) -> Way:
    """How `classifier` sees `source`; with tta "flip" both views of each picture."""
    from vitrail.data.loading.loader import make_loader
    from vitrail.device import pick_device, pick_precision
    from vitrail.evaluation.flip import FlipAverage

    device = pick_device(reading.device)
    precision, _ = pick_precision(reading.precision, device)
    loader = make_loader(
        source,
        classifier.preprocess,
        None,
        batch_size=reading.batch_size,
        seed=0,
        workers=reading.workers,
        max_pixels=reading.max_pixels,
    )
    model = classifier.model.to(device)
    model = FlipAverage(model) if tta == "flip" else model
    return Way(model, source, loader, device, precision, reading.batch_size)


def measure(
    classifier: Classifier, source: Source, reading: DecodeOptions, tta: str, output: Output
) -> Evaluation:
    """Run the classifier over every picture of `source`."""
    from vitrail.evaluation.evaluate import evaluate as run

    way = way_of(classifier, source, reading, tta)
    with eta(output, f"pictures of {source.name}") as tell:
        return run(
            way.model,
            way.batches(tell),
            classifier.preprocess,
            classifier.classes or source.classes,
            temperature=classifier.temperature,
            device=way.device,
            precision=way.precision,
            source_id=source.source_id,
        )


def outputs(
    classifier: Classifier, source: Source, reading: DecodeOptions, output: Output
) -> Outputs:
    """The logits of the classifier for every picture of `source`."""
    from vitrail.evaluation.evaluate import outputs_of

    way = way_of(classifier, source, reading)
    with eta(output, f"pictures of {source.name}") as tell:
        return outputs_of(
            way.model,
            way.batches(tell),
            classifier.preprocess,
            classifier.classes or source.classes,
            device=way.device,
            precision=way.precision,
            source_id=source.source_id,
        )

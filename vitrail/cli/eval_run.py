"""A classifier shown the images of a split: what eval, probe and explain share."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from vitrail.api.options import BadFiles
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import eta

if TYPE_CHECKING:
    import torch

    from vitrail.classifier import Classifier
    from vitrail.data.sources.open_data import Splits
    from vitrail.evaluation.measuring.measuring import Measuring, Tta


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How images are read and computed."""

    batch_size: int = 64
    """Batch size."""
    workers: int = 0
    """Data-loading workers (processes)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    precision: str | None = None
    """auto, float32, bfloat16. Default: float32."""
    on_bad_file: BadFiles = "stop"
    """Images that cannot be decoded."""
    max_pixels: int = 64_000_000
    """Reject images with more pixels."""


def say_notes(splits: Splits, output: Output) -> None:
    """What of the data is left out or was told by names, a line each."""
    for note in splits.notes:
        output.note(f"data: {note}")


def measuring_of(
    classifier: Classifier, reading: DecodeOptions, output: Output, tta: Tta = "none"
) -> Measuring:
    """How `classifier` is measured, told on stderr how far it is: where and how was asked for of
    torch; another engine computes where and as it does.
    """
    by_torch = classifier.runtime.info.engine == "torch"
    device, precision = computed_on(reading) if by_torch else (None, "float32")
    return classifier.measuring(
        device=device,
        precision=precision,
        tta=tta,
        batch_size=reading.batch_size,
        workers=reading.workers,
        max_pixels=reading.max_pixels,
        progress=partial(eta, output),
    )


def computed_on(reading: DecodeOptions) -> tuple[torch.device, str]:
    """Device and precision that were asked for, or the best there are. Raises UsageError VIT-241,
    VIT-242, EnvironmentFault VIT-501.
    """
    from vitrail.device import pick_device, pick_precision

    device = pick_device(reading.device)
    return device, pick_precision(reading.precision or "float32", device)[0]

"""A learning rate for images and settings, found by short trainings, as numbers and as a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from vitrail.api.options import TrainOptions, layer_of, shows_options
from vitrail.config import SHORT
from vitrail.errors import UsageError
from vitrail.figures.plot import plot
from vitrail.files import refuse_existing, write_together
from vitrail.settings.layers import DURATIONS
from vitrail.training.determinism import unchanged_process
from vitrail.training.lr_sweep import LrFind
from vitrail.training.lr_sweep import lr_find as search
from vitrail.training.plan.plan_run import Layers
from vitrail.training.reporter import Reporter, SilentReporter

FILES = ("lr_find.json", "lr_find.svg")


@shows_options
def lr_find(
    data: str | Path,
    *,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Unpack[TrainOptions],
) -> LrFind:
    """Suggest a learning rate: compare short trainings at several rates on validation images.

    data, options, settings: as for `train`, without a rate and a duration. out: a folder for
    lr_find.json and lr_find.svg, which must not hold them; nothing is written unless given. The
    answer has `lrs` in ascending order, `losses` in nats (NaN where it diverged), `suggestion`,
    `default` and a `sentence`. The process is left as it was.

    Raises UsageError VIT-203 for a rate or a duration, VIT-206 where the files exist;
    TrainingError VIT-602 where the loss never falls.
    """
    layer = layer_of(data, options, settings)
    refuse_without_effect(layer)
    with unchanged_process():
        return find_rate([("arguments", layer)], None if out is None else Path(out))


def find_rate(layers: Layers, out: Path | None, reporter: Reporter | None = None) -> LrFind:
    """The search, and its files where they go. Raises as `lr_find`."""
    if out is not None:
        refuse_existing(*files_in(out), hint="Choose another folder: --out")
    found = search(layers, reporter=reporter or SilentReporter())
    if out is not None:
        document = json.dumps(to_json(found)) + "\n"
        write_together(out, dict(zip(FILES, (document, plot(found.figure()).file()), strict=True)))
    return found


def files_in(out: Path) -> Sequence[Path]:
    """What is written into `out`."""
    return [out / name for name in FILES]


def to_json(found: LrFind) -> dict[str, Any]:
    """The search as plain data; null where a training diverged."""
    return {
        "suggestion": found.suggestion,
        "default": found.default,
        "lrs": list(found.lrs),
        "losses": [loss if math.isfinite(loss) else None for loss in found.losses],
        "sentence": found.sentence,
    }


def refuse_without_effect(settings: Mapping[str, Any]) -> None:
    """Raise UsageError VIT-203 for a rate or a duration: the trainings have their own."""
    for key, value in settings.items():
        if SHORT.get(key, key) in ("optim.lr", *DURATIONS) and value is not None:
            raise UsageError(
                "VIT-203",
                f"--{key.replace('_', '-')} has no effect on lr-find, which compares rates.",
                hint="Leave it out.",
            )

"""What follows from the settings of a run: its architecture, and how it sees an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitrail.checkpoints.adapt.adapt_model import of_one_size, target_config
from vitrail.checkpoints.mapping.evaluation_crops import shown_by
from vitrail.config import TrainConfig
from vitrail.data.images.preprocess import Preprocess, short_side
from vitrail.models.names import ModelConfig, config_from_numbers, resolve_model
from vitrail.runs import documents
from vitrail.training.plan.facts import Facts
from vitrail.training.plan.pinned_model import REGULARISERS
from vitrail.training.plan.starting_model import Size, Start

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def derive(
    config: TrainConfig,
    num_classes: int,
    facts: Facts,
    start: Start | None,
    recorded: Mapping[str, Any] | None,
) -> tuple[ModelConfig, Preprocess, str]:
    """Architecture, preprocessing, and the library that the weights come from ("" for vitrail).

    recorded: what the run that is resumed recorded of them, where it started from a model.
    Raises UsageError VIT-211, VIT-214, VIT-221, VIT-222, VIT-230.
    """
    if recorded is not None and config.start.model:
        return _recorded(recorded)
    model = _model(config, num_classes, start)
    origin = start.origin if start is not None else ""
    return model, shown_by(preprocess_of(config, facts, start), model), origin


def _model(config: TrainConfig, num_classes: int, start: Start | None) -> ModelConfig:
    """The architecture of a run; without a head where no labels are learnt."""
    classes = num_classes if config.objective == "classify" else 0
    size, channels = _pair(config.data.image_size), int(config.data.channels)
    if start is not None:
        return architecture(start, size, channels, classes, config.model.overrides)
    return resolve_model(
        config.model.name,
        num_classes=classes,
        image_size=size,
        channels=channels,
        overrides=config.model.overrides,
    )


def _recorded(run: Mapping[str, Any]) -> tuple[ModelConfig, Preprocess, str]:
    """Architecture, preprocessing and origin as run.json has them."""
    _, family, numbers = documents.built(run, Path("run.json"))
    model = config_from_numbers(family, numbers)
    start = run.get("from") or {}
    return model, Preprocess.from_json(run["preprocess"]), str(start.get("origin", ""))


def preprocess_of(config: TrainConfig, facts: Facts, start: Start | None = None) -> Preprocess:
    """The evaluation preprocessing of a run."""
    data = config.data
    size, channels = _pair(data.image_size), int(data.channels)
    means, stds = _statistics(config, facts, start)
    interpolation = data.interpolation
    if data.resize == "source":
        assert start is not None
        kept = at_size(start.preprocess, size, channels)
        changes: dict[str, Any] = {"mean": means, "std": stds}
        if interpolation != "source":
            changes |= {"interpolation": interpolation, "resizer": "pillow", "antialias": True}
            changes["keep_floats"] = False
        return Preprocess(**(kept.model_dump() | changes))
    squash = data.resize == "squash"
    if interpolation == "source":
        assert start is not None
        kind = start.preprocess.crop_interpolation
    else:
        kind = interpolation
    return Preprocess(
        height=size[0],
        width=size[1],
        resize=size if squash else short_side(min(size), data.crop_fraction),
        crop="none" if squash else "center",
        interpolation=kind,
        mean=means,
        std=stds,
    )


def _statistics(
    config: TrainConfig, facts: Facts, start: Start | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel."""
    channels, kind = int(config.data.channels), config.data.normalize
    if kind == "source" and start is not None:
        means, stds = start.preprocess.mean, start.preprocess.std
    elif kind == "dataset":
        means, stds = facts.mean, facts.std
    elif kind == "imagenet":
        means, stds = IMAGENET
    else:
        means, stds = (0.5,), (0.5,)
    return in_channels(means, channels), in_channels(stds, channels)


def architecture(
    start: Start, size: Size, channels: int, num_classes: int, overrides: Mapping[str, Any]
) -> ModelConfig:
    """The start's architecture for a task. overrides: `--model.FIELD`, all of them in FREE.

    Dropout and stochastic depth are those of `overrides`, else off: how a model was regularised
    says nothing of the next task. Images are of one size unless `overrides` have max_patches.
    Raises UsageError VIT-211, VIT-214, VIT-222.
    """
    known = start.config if "max_patches" in overrides else of_one_size(start.config)
    target = target_config(known, num_classes=num_classes, image_size=size, channels=channels)
    fields = type(target).model_fields
    plain = {key: fields[key].default for key in REGULARISERS if key in fields}
    return type(target).model_validate(target.model_dump() | plain | dict(overrides))


def _pair(size: tuple[int, int] | str) -> tuple[int, int]:
    assert not isinstance(size, str)
    return size


def at_size(preprocess: Preprocess, size: Size, channels: int) -> Preprocess:
    """`preprocess` for another image size and number of channels: the same rule, in proportion."""
    height, width = size
    resize: int | Size
    if preprocess.crop == "none":
        resize = size
    elif isinstance(preprocess.resize, int):
        share = preprocess.resize / min(preprocess.height, preprocess.width)
        resize = math.floor(min(size) * share + 1e-6)
    else:
        rows, cols = preprocess.resize
        resize = (
            math.floor(height * rows / preprocess.height + 1e-6),
            math.floor(width * cols / preprocess.width + 1e-6),
        )
    values = preprocess.model_dump() | {"height": height, "width": width, "resize": resize}
    values |= {"max_patches": None, "patch_size": None}
    for key in ("mean", "std"):
        values[key] = in_channels(values[key], channels)
    return Preprocess(**values)


def in_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Statistics of colours for gray images, their mean, and the other way round."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels

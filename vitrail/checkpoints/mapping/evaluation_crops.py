"""How PyTorch libraries prepare an image for evaluation, as `Preprocess` records (spec 2.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vitrail.data.images.preprocess import Preprocess, short_side
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
Stats = tuple[Sequence[float], Sequence[float]]
IMAGENET: Stats = (IMAGENET_MEAN, IMAGENET_STD)


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Mean or std of a model with that many channels: of one, the mean of the three."""
    if channels == len(values):
        return tuple(float(value) for value in values)
    return (float(sum(values) / len(values)),) * (1 if channels == 1 else 3)


def centre_crop(
    size: tuple[int, int], short: int, interpolation: str, stats: Stats, channels: int = 3
) -> Preprocess:
    """The short side to `short` px, then the centre of (height, width)."""
    return Preprocess.model_validate(
        {
            "height": size[0],
            "width": size[1],
            "resize": max(short, min(size)),
            "crop": "center",
            "interpolation": interpolation,
            "mean": for_channels(stats[0], channels),
            "std": for_channels(stats[1], channels),
        }
    )


def squash(
    size: tuple[int, int], interpolation: str, stats: Stats, channels: int = 3
) -> Preprocess:
    """The whole image to (height, width), whatever its shape."""
    return Preprocess.model_validate(
        {
            "height": size[0],
            "width": size[1],
            "resize": size,
            "interpolation": interpolation,
            "mean": for_channels(stats[0], channels),
            "std": for_channels(stats[1], channels),
        }
    )


def crop_fraction(size_px: int, short: int) -> float:
    """timm's crop_pct whose `short_side` is `short`, with as few digits as that takes."""
    for digits in range(1, 7):
        value = round(size_px / short, digits)
        if value > 0 and short_side(size_px, value) == short:
            return value
    return size_px / math.nextafter(short + 0.5, short)


def shown_by(preprocess: Preprocess, config: ModelConfig) -> Preprocess:
    """The preprocessing for a model of this configuration, whose budget of patches may be another
    than that of `preprocess`.
    """
    most = config.max_patches if isinstance(config, ViTConfig) else None
    if most == preprocess.max_patches:
        return preprocess
    if most is None or not isinstance(config, ViTConfig):
        return preprocess.model_copy(update={"max_patches": None, "patch_size": None})
    kind = preprocess.crop_interpolation
    return variable_preprocess(config, kind, preprocess.mean, preprocess.std)


def variable_preprocess(
    config: ViTConfig, interpolation: Any, mean: tuple[float, ...], std: tuple[float, ...]
) -> Preprocess:
    """Images in their own aspect ratio, for a model of variable resolution."""
    return Preprocess(
        height=config.image_size[0],
        width=config.image_size[1],
        resize=config.image_size,
        interpolation=interpolation,
        mean=mean,
        std=std,
        max_patches=config.max_patches,
        patch_size=config.patch_size,
    )

"""The preprocessing of a checkpoint for an adapted model: other size, other number of channels."""

from __future__ import annotations

from statistics import fmean

from vitrail.data.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.models.names import ModelConfig


def adapt_preprocess(preprocess: Preprocess, target: ModelConfig) -> tuple[Preprocess, list[str]]:
    """`preprocess` for the pictures of `target`, and one sentence per change.

    A short side keeps its ratio to the shorter side of the crop, rounded down (224 of 256 px
    becomes 384 of 438); a squashed picture stays squashed. Gray pictures are normalised with the
    mean over the channels, color ones with the gray model's values in each channel.
    Raises ModelError VIT-455 for a number of channels that no picture has.
    """
    before, after = (preprocess.height, preprocess.width), target.image_size
    values, sentences = preprocess.to_json(), []
    if before != after:
        values |= {"height": after[0], "width": after[1], "resize": _resize(preprocess, after)}
        sentences.append(
            f"preprocess: {before[0]}x{before[1]} px become {after[0]}x{after[1]} px "
            f"(resize {preprocess.resize} becomes {values['resize']})."
        )
    channels = target.channels
    if preprocess.channels != channels:
        if channels not in (1, 3):
            raise ModelError(
                "VIT-455",
                f"the model takes {channels} channels; pictures have 1 (gray) or 3 (RGB).",
                hint="Choose 1 or 3 channels.",
            )
        for name in ("mean", "std"):
            values[name] = [fmean(values[name])] * channels
        sentences.append(
            f"preprocess: pictures of {preprocess.channels} channels become {channels}, with mean "
            f"{values['mean'][0]:.4g} and std {values['std'][0]:.4g} in each."
        )
    return Preprocess.from_json(values), sentences


def _resize(preprocess: Preprocess, size: tuple[int, int]) -> int | tuple[int, int]:
    """What comes before the crop, in proportion."""
    old = (preprocess.height, preprocess.width)
    if isinstance(preprocess.resize, int):
        return preprocess.resize * min(size) // min(old)
    height, width = (
        whole * new // cropped
        for whole, new, cropped in zip(preprocess.resize, size, old, strict=True)
    )
    return height, width

"""Reading intermediates out of a forward pass, without hooks.

`model(images, tap={})` fills the dict with every intermediate by name; `tap={"block03/attention":
None}` asks for the named ones only, so that memory stays bounded. What is not asked for takes the
fused path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from vitrail.errors import UsageError, nearest

TapDict = dict[str, Tensor | None]


class ResidualStages(Protocol):
    """What the names of a residual network follow from: `BiTConfig` or `ResNetConfig`."""

    @property
    def depths(self) -> Sequence[int]:
        """Units of each stage."""

    @property
    def num_classes(self) -> int:
        """0: no head."""


def residual_tap_names(config: ResidualStages) -> list[str]:
    """Every intermediate of a residual network.

    stem, stage0 ... and feature_map (of a BiT after the last norm and ReLU) as (B, C, h, w);
    pre_logits (B, C); logits (B, K).
    """
    names = ["stem", *(f"stage{number}" for number in range(len(config.depths)))]
    return [*names, "feature_map", "pre_logits"] + (["logits"] if config.num_classes else [])


def map_names(config: ResidualStages) -> list[str]:
    """Those of them that are maps, (B, C, h, w)."""
    return [name for name in residual_tap_names(config) if name not in ("pre_logits", "logits")]


def check_images(images: Tensor, expected: tuple[int, int, int]) -> None:
    """Raises UsageError VIT-224 unless images are (B, C, H, W) with `expected` (C, H, W)."""
    if images.ndim != 4 or tuple(images.shape[1:]) != expected:
        raise UsageError(
            "VIT-224",
            f"images have shape {tuple(images.shape)}; this model takes (B, C, H, W) = "
            f"(B, {', '.join(map(str, expected))})",
            hint="Resize the images or build the model for their size.",
        )


class Tap:
    """Where layers write their intermediates: the caller's dict, and the names it asks for."""

    def __init__(self, store: TapDict, names: Sequence[str]) -> None:
        """store: empty for all of `names`, or with some of them as keys. Raises UsageError VIT-223
        for another name."""
        unknown = sorted(set(store) - set(names))
        if unknown:
            message = f"tap asks for {unknown[0]!r}, which this model does not have."
            raise UsageError("VIT-223", f"{message} {nearest(unknown[0], names)}")
        self.store = store
        self.asked = frozenset(store or names)

    def write(self, name: str, value: Tensor) -> None:
        """Keeps `value`, attached to the graph, where `name` is asked for."""
        if name in self.asked:
            self.store[name] = value

"""Reading intermediates out of a forward pass, without hooks.

`model(images, tap={})` fills the dict with every intermediate by name; `tap={"block03/attention":
None}` asks for the named ones only, so that memory stays bounded. What is not asked for takes the
fused path.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vitrail.errors import UsageError, nearest
from vitrail.models.bit_configs import BiTConfig
from vitrail.models.configs import ViTConfig
from vitrail.models.residual_config import ResNetConfig

TapDict = dict[str, Tensor | None]


def tap_names(config: ViTConfig) -> list[str]:
    """Every intermediate of a ViT, in the order of computation.

    feature_map (B, C, h, w) behind a stem; patches (B, P, D) before posemb; embedded (B, N, D) into
    the first block; per block attention (B, heads, N, N) after the softmax and output (B, N, D),
    without the position that a `posemb_at` adds to the next block's input;
    tokens (B, N, D) after the final norm, or without one where it follows the mean; pool/attention
    (B, heads, 1, N) of pool="map", (B, 1, 1, N) of pool="seq"; pooled (B, D); pre_logits (B, R);
    logits (B, K). Prefix tokens come first: cls, dist, registers.
    """
    names = ["feature_map"] if config.stem != "none" else []
    names += ["patches", "embedded"]
    for index in range(config.depth):
        names += [f"block{index:02d}/attention", f"block{index:02d}/output"]
    names += ["tokens"] + (["pool/attention"] if config.pool in ("map", "seq") else [])
    names += ["pooled", "pre_logits"]
    return names + (["logits"] if config.num_classes else [])


def residual_tap_names(config: BiTConfig | ResNetConfig) -> list[str]:
    """Every intermediate of a residual network.

    stem, stage0 ... and feature_map (of a BiT after the last norm and ReLU) as (B, C, h, w);
    pre_logits (B, C); logits (B, K).
    """
    names = ["stem", *(f"stage{number}" for number in range(len(config.depths)))]
    return [*names, "feature_map", "pre_logits"] + (["logits"] if config.num_classes else [])


def map_names(config: BiTConfig | ResNetConfig) -> list[str]:
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

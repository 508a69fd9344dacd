"""Shapes of residual stages: which units there are, on maps of which size. No torch.

Stage s (from 0) of a network of width w has units of 2^s w inner and 4 * 2^s w outer channels; its
first unit has stride 2, but in stage 0 (big_vision `models/bit.py`, vision_transformer
`models_resnet.py`). Every stride-2 layer makes ceil(size / 2) of size, whether it pads as TF's SAME
or by half a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vitrail.errors import UsageError
from vitrail.spelling import count

Pair = tuple[int, int]
GROUPS = 32  # of every GroupNorm


class Unit(NamedTuple):
    """One bottleneck: channels in, inside and out; (height, width) of its input and output map."""

    stage: int
    num_in: int
    num_mid: int
    num_out: int
    stride: int
    in_size: Pair
    out_size: Pair

    @property
    def has_projection(self) -> bool:
        """Whether the shortcut is a 1x1 convolution."""
        return self.num_in != self.num_out or self.stride != 1


def halved(size: Pair, stride: int = 2) -> Pair:
    """The map after a layer of this stride."""
    return -(-size[0] // stride), -(-size[1] // stride)


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TF's zeros before and after an axis: 7 at stride 2 on 224 is (2, 3)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def root_sizes(image_size: Pair, root: str) -> tuple[Pair, Pair]:
    """The maps after the root's convolution and after its pool."""
    if root == "small":
        return image_size, image_size
    convolved = halved(image_size)
    return convolved, halved(convolved)


def units(depths: Sequence[int], width: int, size: Pair) -> list[Unit]:
    """All units in order; width: channels of the root; size: the map that the root gives."""
    found: list[Unit] = []
    channels = width
    for stage, depth in enumerate(depths):
        mid = width * 2**stage
        for index in range(depth):
            stride = 2 if stage and not index else 1
            out_size = halved(size, stride)
            found.append(Unit(stage, channels, mid, 4 * mid, stride, size, out_size))
            channels, size = 4 * mid, out_size
    return found


def check_width(width: int, name: str) -> None:
    """Raises UsageError VIT-230 where GroupNorm cannot divide the root's channels."""
    if width % GROUPS:
        raise UsageError(
            "VIT-230",
            f"{name} gives a stem of {count(width, 'channel')}; GroupNorm needs a multiple of "
            f"{GROUPS}.",
            hint="Width factors that fit: 0.5, 1, 1.5, 2, 3, 4 (64 channels are 1).",
        )

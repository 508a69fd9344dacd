"""Residual stages of BiT and of the hybrids; parameter names are timm's.

Pre-activation units (BiT, arXiv 1912.11370; arXiv 1603.05027): norm and ReLU before each
convolution, the shortcut of a first unit on the activated input. Post-activation units
(vision_transformer `models_resnet.py`, big_vision `models/bit.py`): norm after each convolution,
also in the shortcut, ReLU after the sum. Both have their stride on the 3x3 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrail.models.layers.fields import Root, StdForm
from vitrail.models.layers.stages import Unit
from vitrail.models.layers.std_conv import (
    StdConv2d,
    channels_last,
    group_norm,
    max_pool_same,
    max_pool_zero,
)
from vitrail.models.layers.tap import Tap


class Style(NamedTuple):
    """How a network computes: pre-activated with half pads, or post-activated with TF's."""

    is_preact: bool
    root: Root
    std_eps: float
    std_form: StdForm
    gn_eps: float


def std_conv(style: Style, num_in: int, num_out: int, kernel: int, stride: int = 1) -> StdConv2d:
    """A convolution of the network."""
    pads = "half" if style.is_preact else "same"
    eps, form = style.std_eps, style.std_form
    return StdConv2d(num_in, num_out, kernel, stride=stride, pads=pads, eps=eps, form=form)


class RootBlock(nn.Module):
    """The first convolution: 7x7 at stride 2 and a pool, or 3x3 alone for small images."""

    def __init__(self, style: Style, channels: int, width: int) -> None:
        super().__init__()
        self.style = style
        kernel, stride = (3, 1) if style.root == "small" else (7, 2)
        self.conv = std_conv(style, channels, width, kernel, stride)
        if not style.is_preact:
            self.norm = group_norm(width, style.gn_eps)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W). Returns (B, width, ceil(H / 4), ceil(W / 4)); 3x3: (.., H, W)."""
        x: Tensor = channels_last(self.conv(channels_last(images)))
        if not self.style.is_preact:
            x = F.relu(self.norm(x), inplace=True)
        if self.style.root == "small":
            return x
        return max_pool_zero(x) if self.style.is_preact else max_pool_same(x)


class Shortcut(nn.Module):
    """The 1x1 convolution beside a stage's first unit, in post-activated networks with a norm."""

    def __init__(self, style: Style, unit: Unit) -> None:
        super().__init__()
        self.conv = std_conv(style, unit.num_in, unit.num_out, 1, unit.stride)
        self.norm = nn.Identity() if style.is_preact else group_norm(unit.num_out, style.gn_eps)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, num_in, H, W). Returns (B, num_out, h, w)."""
        shortcut: Tensor = self.norm(self.conv(x))
        return shortcut


class Bottleneck(nn.Module):
    """1x1 to the inner channels, 3x3 with the stride, 1x1 to four times as many, and a sum."""

    def __init__(self, style: Style, unit: Unit) -> None:
        super().__init__()
        self.style, a, b, c = style, unit.num_in, unit.num_mid, unit.num_out
        normed = (a, b, b) if style.is_preact else (b, b, c)
        self.norm1, self.norm2, self.norm3 = (group_norm(n, style.gn_eps) for n in normed)
        self.conv1 = std_conv(style, a, b, 1)
        self.conv2 = std_conv(style, b, b, 3, unit.stride)
        self.conv3 = std_conv(style, b, c, 1)
        self.downsample = Shortcut(style, unit) if unit.has_projection else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, num_in, H, W). Returns (B, num_out, h, w)."""
        return self._preact(x) if self.style.is_preact else self._postact(x)

    def _preact(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x), inplace=True)
        y = self.conv1(active)
        y = self.conv2(F.relu(self.norm2(y), inplace=True))
        y = self.conv3(F.relu(self.norm3(y), inplace=True))
        result: Tensor = (x if self.downsample is None else self.downsample(active)) + y
        return result

    def _postact(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        y = self.norm3(self.conv3(y))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + y, inplace=True)


class BottleneckStage(nn.Module):
    """Units on maps of one size; the first may halve it."""

    def __init__(self, style: Style, units: Sequence[Unit]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Bottleneck(style, unit) for unit in units)


def create_stages(style: Style, units: Sequence[Unit]) -> nn.ModuleList:
    """One `BottleneckStage` a stage."""
    numbers = sorted({unit.stage for unit in units})
    return nn.ModuleList(
        BottleneckStage(style, [u for u in units if u.stage == n]) for n in numbers
    )


def run_stages(
    stages: nn.ModuleList, x: Tensor, tap: Tap | None = None, *, is_checkpointed: bool = False
) -> Tensor:
    """x: (B, C, H, W) from the root. Returns the last map; taps the output of every stage.

    is_checkpointed: keep the input of each unit only, and compute it again in the backward pass.
    """
    for number, stage in enumerate(stages):
        for unit in stage.get_submodule("blocks").children():
            x = checkpoint(unit, x, use_reentrant=False) if is_checkpointed else unit(x)
        if tap is not None:
            tap.write(f"stage{number}", x)
    return x

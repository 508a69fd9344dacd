"""A residual network for small images: `ResNetConfig` says which. Parameter names follow timm's.

Stem -> stages -> maximum or mean over the map -> head. Build it with `create_model`, which also
sets the initial values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrail.models.layers.residual_net import Head, PooledNet
from vitrail.models.layers.std_conv import channels_last
from vitrail.models.layers.tap import Tap
from vitrail.models.resnet.config import Conv, Norm, ResidualUnit, ResNetConfig
from vitrail.models.resnet.conv_norm import ConvNorm, running_values_kept


class UnitStyle(NamedTuple):
    """How every layer computes; is_relu_on_sum: the ReLU follows the sum, not the branch."""

    norm: Norm
    eps: float
    momentum: float
    is_relu_on_sum: bool


class Opening(nn.Module):
    """The 3x3 convolution that opens a stage."""

    def __init__(self, unit: ResidualUnit, style: UnitStyle) -> None:
        super().__init__()
        self.conv1 = conv_norm(unit.convs[0], style)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, num_in, H, W). Returns (B, num_out, h, w)."""
        return F.relu(self.conv1(x), inplace=True)


class Residual(nn.Module):
    """Two convolutions of 3x3, or 1x1, 3x3 and 1x1, and a sum with what came in."""

    def __init__(self, unit: ResidualUnit, style: UnitStyle) -> None:
        super().__init__()
        self.is_relu_on_sum = style.is_relu_on_sum
        self.conv1, self.conv2, *more = (conv_norm(conv, style) for conv in unit.convs)
        self.conv3 = more[0] if more else None
        self.downsample = conv_norm(unit.shortcut, style) if unit.shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, num_in, H, W). Returns (B, num_out, h, w)."""
        y = self.conv2(F.relu(self.conv1(x), inplace=True))
        if self.conv3 is not None:
            y = self.conv3(F.relu(y, inplace=True))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        if self.is_relu_on_sum:
            return F.relu(shortcut + y, inplace=True)
        return shortcut + F.relu(y, inplace=True)


class ResNetStage(nn.Module):
    """Units on maps of one size."""

    def __init__(self, units: Sequence[ResidualUnit], style: UnitStyle) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Residual(unit, style) if unit.is_sum else Opening(unit, style) for unit in units
        )


class Trunk(nn.Module):
    """Stem and stages alone, as a Vision Transformer has them before its patches."""

    def __init__(self, stem: Conv, units: Sequence[ResidualUnit], style: UnitStyle) -> None:
        super().__init__()
        self.stem = conv_norm(stem, style)
        self.stages = create_stages(units, style)

    def forward(self, images: Tensor, *, is_checkpointed: bool = False) -> Tensor:
        """images: (B, C, H, W). Returns the last map, (B, C', h, w)."""
        return run_trunk(self.stem, self.stages, images, is_checkpointed=is_checkpointed)


def conv_norm(shape: Conv, style: UnitStyle) -> ConvNorm:
    """A convolution of the network."""
    return ConvNorm(shape, style.norm, style.eps, style.momentum)


def create_stages(units: Sequence[ResidualUnit], style: UnitStyle) -> nn.ModuleList:
    """One `ResNetStage` a stage."""
    numbers = sorted({unit.stage for unit in units})
    return nn.ModuleList(ResNetStage([u for u in units if u.stage == n], style) for n in numbers)


def run_trunk(
    stem: nn.Module,
    stages: nn.ModuleList,
    images: Tensor,
    tap: Tap | None = None,
    *,
    is_checkpointed: bool = False,
) -> Tensor:
    """images: (B, C, H, W). Returns the last map, (B, C', h, w); taps stem and stages.

    is_checkpointed: keep the input of each unit only, and compute it again in the backward pass.
    """
    x = F.relu(channels_last(stem(channels_last(images))), inplace=True)
    if tap is not None:
        tap.write("stem", x)
    for number, stage in enumerate(stages):
        for unit in stage.get_submodule("blocks").children():
            x = _recomputed(unit, x) if is_checkpointed else unit(x)
        if tap is not None:
            tap.write(f"stage{number}", x)
    return x


def _recomputed(unit: nn.Module, x: Tensor) -> Tensor:
    def contexts() -> tuple[
        contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]
    ]:
        return contextlib.nullcontext(), running_values_kept(unit)

    result: Tensor = checkpoint(unit, x, use_reentrant=False, context_fn=contexts)
    return result


class ResNet(PooledNet):
    """Images to logits; the pooling is the maximum where the configuration says so."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.config = config
        style = UnitStyle(config.norm, config.norm_eps, config.norm_momentum, config.relu == "sum")
        self.stem = conv_norm(config.stem_conv, style)
        self.stages = create_stages(config.units, style)
        if config.num_classes:
            self.head = Head(config.num_features, config.num_classes)

    def map_of(self, images: Tensor, tap: Tap | None, *, is_checkpointed: bool) -> Tensor:
        """What the stages give."""
        return run_trunk(self.stem, self.stages, images, tap, is_checkpointed=is_checkpointed)

    def pooled(self, last: Tensor) -> Tensor:
        """By the mean or the maximum over the map."""
        return last.amax(dim=(2, 3)) if self.config.pool == "max" else super().pooled(last)

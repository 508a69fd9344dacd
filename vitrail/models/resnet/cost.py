"""What the residual network for small images costs, by formula, also as a ViT's stem. No torch.

Counts of one image. Multiply-adds are those of the convolutions: BatchNorm is folded into them, and
GroupNorm, ReLU and sums are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitrail.models.layers.stages import GROUPS, Pair
from vitrail.models.resnet.config import Conv, ResidualUnit, conv_weights


def conv_parameters(convs: Sequence[Conv]) -> int:
    """Kernels, and scale and shift of each norm."""
    return sum(conv_weights(conv) + 2 * conv.num_out for conv in convs)


def conv_macs(convs: Sequence[Conv]) -> int:
    """Multiply-adds of the convolutions."""
    return sum(_area(conv.out_size) * conv_weights(conv) for conv in convs)


def trunk_activations(
    stem: Conv,
    units: Sequence[ResidualUnit],
    norm: str,
    *,
    is_relu_on_sum: bool,
    is_checkpointed: bool,
) -> int:
    """Numbers that stem and stages keep from forward to backward; of the last map where it is a
    ReLU's result, which its gradient needs."""
    total = stem.num_in * _area(stem.in_size) + _norm_numbers(stem, norm)
    if not units:
        return total + stem.num_out * _area(stem.out_size)
    if ends_with_relu(units, is_relu_on_sum=is_relu_on_sum):
        total += units[-1].num_out * _area(units[-1].out_size)
    inside = [_unit_activations(unit, norm, is_relu_on_sum) for unit in units]
    if not is_checkpointed:
        return total + sum(inside)
    return total + sum(unit.num_in * _area(unit.in_size) for unit in units) + max(inside)


def ends_with_relu(units: Sequence[ResidualUnit], *, is_relu_on_sum: bool) -> bool:
    """Whether the last map is a ReLU's result, not a sum."""
    return is_relu_on_sum or not units[-1].is_sum


def _unit_activations(unit: ResidualUnit, norm: str, is_relu_on_sum: bool) -> int:
    """The unit's input, what enters each norm, and each activated map but the last."""
    total = sum(
        conv.num_in * _area(conv.in_size) + _norm_numbers(conv, norm) for conv in unit.convs
    )
    total += _norm_numbers(unit.shortcut, norm) if unit.shortcut else 0
    is_kept = unit.is_sum and not is_relu_on_sum  # the activated branch, beside the sum
    return total + (unit.num_out * _area(unit.out_size) if is_kept else 0)


def _norm_numbers(conv: Conv, norm: str) -> int:
    """The map that the norm sees; of GroupNorm mean and deviation of each group."""
    groups = 0 if norm == "batch" else 2 * math.gcd(GROUPS, conv.num_out)
    return conv.num_out * _area(conv.out_size) + groups


def _area(size: Pair) -> int:
    return size[0] * size[1]

"""What the residual networks of BiT and of the hybrids cost, by formula. No torch, no model built.

Counts of one image. timm's profiler (fvcore) counts 5 for each number that a GroupNorm sees and 4
for each weight that is standardised, 1 to 4 % of these networks; so do the multiply-adds here, to
be comparable with its tables. ReLU and pools count nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.models.layers.stages import GROUPS, Pair, Unit, root_sizes, same_pads

NORM_NUMBERS = 2 * GROUPS  # mean and deviation of each group
NORM_COST, STANDARDISE_COST = 5, 4


def root_parameters(channels: int, width: int, root: str, *, is_preact: bool) -> int:
    """The first convolution, and its norm in post-activated networks."""
    return _root_kernel(root) * channels * width + (0 if is_preact else 2 * width)


def unit_weights(unit: Unit) -> int:
    """The kernels of the three convolutions and, where there is one, the shortcut's."""
    a, b, c = unit.num_in, unit.num_mid, unit.num_out
    return a * b + 9 * b * b + b * c + (a * c if unit.has_projection else 0)


def unit_parameters(unit: Unit, *, is_preact: bool) -> int:
    """Kernels and norms."""
    a, b, c = unit.num_in, unit.num_mid, unit.num_out
    if is_preact:
        return unit_weights(unit) + 2 * (a + b + b)
    return unit_weights(unit) + 2 * (b + b + c + (c if unit.has_projection else 0))


def root_macs(channels: int, width: int, root: str, image_size: Pair, *, is_preact: bool) -> int:
    """Multiply-adds of the first convolution, and its norm."""
    positions = _area(root_sizes(image_size, root)[0])
    weights = _root_kernel(root) * channels * width
    normed = 0 if is_preact else positions * width
    return (positions + STANDARDISE_COST) * weights + NORM_COST * normed


def unit_macs(unit: Unit, *, is_preact: bool) -> int:
    """Multiply-adds of the three convolutions, the shortcut's and the norms."""
    a, b, c = unit.num_in, unit.num_mid, unit.num_out
    before, after = _area(unit.in_size), _area(unit.out_size)
    projection = a * c if unit.has_projection else 0
    total = before * a * b + after * (9 * b * b + b * c + projection)
    total += STANDARDISE_COST * unit_weights(unit)
    shortcut = c if unit.has_projection else 0
    normed = before * (a + b) + after * b if is_preact else before * b + after * (b + c + shortcut)
    return total + NORM_COST * normed


def final_norm_macs(num_features: int, size: Pair) -> int:
    """The norm in front of the mean, pre-activated networks."""
    return NORM_COST * num_features * _area(size)


def root_activations(
    channels: int, width: int, root: str, image_size: Pair, *, is_preact: bool
) -> int:
    """Numbers that the root keeps from forward to backward; positions of a maximum are 8 bytes."""
    convolved, pooled = root_sizes(image_size, root)
    before_norm = 0 if is_preact else width * _area(convolved) + NORM_NUMBERS
    if root == "small":  # what comes behind the ReLU counts as the first unit's input
        return channels * _area(image_size) + before_norm
    total = 2 * width * _area(pooled) + before_norm
    if is_preact:
        framed = (convolved[0] + 2) * (convolved[1] + 2)  # the pool's zeros
        return total + channels * _area(image_size) + width * framed
    return total + channels * _padded_area(image_size, 7, 2) + width * _area(convolved)


def unit_activations(unit: Unit, *, is_preact: bool) -> int:
    """Numbers that one unit keeps, its input included and its output not."""
    a, b, c = unit.num_in, unit.num_mid, unit.num_out
    before, after = _area(unit.in_size), _area(unit.out_size)
    inner = 2 * b * before + 2 * b * after  # in front of a norm, and behind its ReLU
    inner += 3 * NORM_NUMBERS
    if is_preact:
        return 2 * a * before + inner
    inner += b * _padded_area(unit.in_size, 3, unit.stride) if unit.stride > 1 else 0
    inner += NORM_NUMBERS if unit.has_projection else 0
    return a * before + inner + c * after * (2 if unit.has_projection else 1)


def stage_activations(units: Sequence[Unit], *, is_preact: bool, is_checkpointed: bool) -> int:
    """Numbers that all units keep; with checkpointing every input, and one unit's inside."""
    inside = [unit_activations(unit, is_preact=is_preact) for unit in units]
    if not is_checkpointed:
        return sum(inside)
    return sum(unit.num_in * _area(unit.in_size) for unit in units) + max(inside, default=0)


def _root_kernel(root: str) -> int:
    return 9 if root == "small" else 49


def _padded_area(size: Pair, kernel: int, stride: int) -> int:
    """With TF's zeros around it."""
    height, width = (side + sum(same_pads(side, kernel, stride)) for side in size)
    return height * width


def _area(size: Pair) -> int:
    return size[0] * size[1]

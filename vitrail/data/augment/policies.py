"""Which operations an image goes through, and how strongly: RandAugment, TrivialAugment,
3-Augment, colour jitter.

- RandAugment(n, m) (Cubuk et al., arXiv 1909.13719): n of the 14 operations, drawn with
  replacement. Magnitude 10 is the full range (30 degrees, shear .3, factor 1.9), as in the paper's
  TensorFlow code, timm (rand-m9: 0.9 of it) and big_vision (its (2, 15): 1.5 times the range);
  torchvision counts to 30, so that its 9 is our 3. Above 10 all goes on growing up to where an
  operation ends: factors at 0.1 below, threshold 0, 1 bit. Magnitude 0 changes nothing except
  autocontrast and equalize.
- TrivialAugment, wide (Mueller and Hutter, arXiv 2103.10158, table 1): one operation, at one of 31
  even steps of its own, wider range.
- 3-Augment (Touvron et al., DeiT III, arXiv 2204.07118, section 3.2): one of gray, solarize, blur.
- Colour jitter: brightness, contrast and saturation by factors in [1 - s, 1 + s], in random order
  (ColorJitter).

Departures from the sources, both paths alike: all geometric operations of an image are composed
into one affine map that is applied first, once, bilinear (one loss of sharpness instead of n), then
the colours in the drawn order; shifts are whole pixels and shares of the side (TrivialAugment's 32
px are 1/7 of 224), so that images that are only shifted stay sharp; solarize begins at 256, so
that magnitude 0 inverts nothing; posterize keeps 8 bits down to 4 at full range, never 0. On gray
images "color" and "grayscale" change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.random_slots import Uniforms

OPS: Final = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "grayscale",
    "blur",
)
OP_ID: Final = {name: number for number, name in enumerate(OPS)}
NUM_STANDARD: Final = 14  # the paper's list; grayscale and blur belong to 3-Augment
GEOMETRIC: Final = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
FULL_RANGE: Final = 10  # the magnitude of RandAugment that is the full range
TRIVIAL_STEPS: Final = 30  # of TrivialAugment, from 0 to the full range
_IS_GEOMETRIC = np.array([op in GEOMETRIC for op in OPS])


@dataclass(frozen=True)
class Range:
    """The argument of an operation at none and at all of its range; a signed one goes either way
    from its start. Beyond the range it stops at `least`.
    """

    start: float
    end: float
    signed: bool = False
    least: float = -math.inf


_ENHANCE = ("color", "contrast", "brightness", "sharpness")  # argument: a factor, 1 changes nothing
_NO_ARGUMENT = dict.fromkeys(("identity", "autocontrast", "equalize"), Range(0, 0))

# Units: rotate degrees, shear px a px, translate share of the side, solarize the threshold,
# posterize the bits kept.
RANDAUGMENT: Final[dict[str, Range]] = {
    **_NO_ARGUMENT,
    **dict.fromkeys(_ENHANCE, Range(1, 1.9, signed=True, least=0.1)),
    **dict.fromkeys(("shear_x", "shear_y"), Range(0, 0.3, signed=True)),
    **dict.fromkeys(("translate_x", "translate_y"), Range(0, 150 / 331, signed=True)),
    "rotate": Range(0, 30, signed=True),
    "solarize": Range(256, 0, least=0),
    "posterize": Range(8, 4, least=1),
}
TRIVIALAUGMENT: Final[dict[str, Range]] = {
    **_NO_ARGUMENT,
    **dict.fromkeys(_ENHANCE, Range(1, 1.99, signed=True, least=0.01)),
    **dict.fromkeys(("shear_x", "shear_y"), Range(0, 0.99, signed=True)),
    **dict.fromkeys(("translate_x", "translate_y"), Range(0, 32 / 224, signed=True)),
    "rotate": Range(0, 135, signed=True),
    "solarize": Range(256, 0, least=0),
    "posterize": Range(8, 2, least=1),
}
BLUR_RADIUS: Final = (0.1, 2.0)  # px, 3-Augment
_THREE = ("grayscale", "solarize", "blur")
_JITTER_ORDERS = np.array(list(permutations(range(3))))  # (6, 3)
_JITTER_OPS = np.array([OP_ID[name] for name in ("brightness", "contrast", "color")])


@dataclass(frozen=True)
class AugmentDraws:
    """The operations of each image of a batch in order: `ops` int64 (B, K), their arguments
    `values` (B, K).
    """

    ops: NDArray[np.int64]
    values: NDArray[np.float64]


def draw_plan(u: Uniforms, config: AugmentConfig) -> AugmentDraws:
    """The policy of each row of `u`, then the colour jitter."""
    ops, values = _draw_policy(u, config)
    if config.color_jitter > 0:
        order = _JITTER_ORDERS[
            np.floor(u[:, random_slots.JITTER_ORDER] * 6).astype(np.int64)
        ]  # (B, 3)
        factors = 1 + config.color_jitter * (
            2 * u[:, random_slots.JITTER : random_slots.JITTER + 3] - 1
        )
        ops = np.concatenate([ops, _JITTER_OPS[order]], axis=1)
        values = np.concatenate([values, np.take_along_axis(factors, order, axis=1)], axis=1)
    return AugmentDraws(ops, values)


def argument(
    ops: NDArray[np.int64],
    table: dict[str, Range],
    share: Uniforms,
    negative: NDArray[np.bool_],
) -> Uniforms:
    """The arguments of `ops` at each share of its range (1: all of it, more: beyond); `negative`
    takes the other side of a signed range. All of one shape.
    """
    spans = [table[op] for op in OPS[:NUM_STANDARD]]
    start, length, signed, least = (
        np.array(values)[ops]
        for values in (
            [span.start for span in spans],
            [span.end - span.start for span in spans],
            [span.signed for span in spans],
            [span.least for span in spans],
        )
    )
    step = length * share
    step = np.where(ops == OP_ID["posterize"], np.rint(step), step)
    result: Uniforms = np.maximum(start + np.where(negative & signed, -step, step), least)
    return result


def affine_maps(plan: AugmentDraws, size: tuple[int, int]) -> tuple[Uniforms, NDArray[np.bool_]]:
    """The composed geometry of each image (B, 2, 3), and which images have any (B,).

    A map takes output coordinates (x, y, 1), pixel centres at .5, to input coordinates, as Pillow's
    AFFINE does. Shears fix the top left corner, rotations the centre, as in all sources.
    """
    height, width = size
    moved = (_IS_GEOMETRIC[plan.ops] & (plan.values != 0)).any(axis=1)
    steps = _affine(plan.ops[moved], plan.values[moved], height, width)  # (2, 3, G, K)
    maps = np.zeros((len(moved), 2, 3))
    maps[:, [0, 1], [0, 1]] = 1.0
    if moved.any():
        total = steps[..., 0]
        for k in range(1, plan.ops.shape[1]):
            total = _composed(total, steps[..., k])
        maps[moved] = total.transpose(2, 0, 1)
    return maps, moved


def fill_value(channels: int) -> int:
    """Pixels that a geometric operation uncovers: middle gray in colour (big_vision), black in gray
    images.

    Gray sets (digits, garments, scans) have a black ground.
    """
    return 128 if channels == 3 else 0


def _draw_policy(u: Uniforms, config: AugmentConfig) -> tuple[NDArray[np.int64], Uniforms]:
    if config.policy == "none" or (config.policy == "randaugment" and config.num_ops == 0):
        return np.zeros((len(u), 0), dtype=np.int64), np.zeros((len(u), 0))
    if config.policy == "three_augment":
        names = np.array([OP_ID[name] for name in _THREE])
        ops = names[np.floor(u[:, [random_slots.OP]] * 3).astype(np.int64)]  # (B, 1)
        low, high = BLUR_RADIUS
        radius = low + (high - low) * u[:, [random_slots.LEVEL]]
        return ops, np.select(
            [ops == OP_ID["blur"], ops == OP_ID["solarize"]], [radius, 128.0], 0.0
        )
    trivial = config.policy == "trivialaugment"
    num = 1 if trivial else config.num_ops
    ops = np.floor(u[:, random_slots.OP : random_slots.OP + num] * NUM_STANDARD).astype(
        np.int64
    )  # (B, n)
    drawn = (
        np.floor(u[:, random_slots.LEVEL : random_slots.LEVEL + num] * (TRIVIAL_STEPS + 1))
        / TRIVIAL_STEPS
    )
    share = drawn if trivial else np.full_like(drawn, config.magnitude / FULL_RANGE)
    negative = u[:, random_slots.SIGN : random_slots.SIGN + num] < 0.5
    table = TRIVIALAUGMENT if trivial else RANDAUGMENT
    return ops, argument(ops, table, share, negative)


def _composed(outer: Uniforms, inner: Uniforms) -> Uniforms:
    """Maps (2, 3, G): first `inner`, then `outer`; ten times as fast as products of 3 x 3."""
    linear: Uniforms = outer[:, 0, None] * inner[0] + outer[:, 1, None] * inner[1]  # (2, 3, G)
    linear[:, 2] += outer[:, 2]
    return linear


def _affine(ops: NDArray[np.int64], values: Uniforms, height: int, width: int) -> Uniforms:
    """The map of each operation, (2, 3, *ops.shape); the identity for colours."""
    maps = np.zeros((2, 3, *ops.shape))
    maps[0, 0] = maps[1, 1] = 1.0
    for op, row, col, scale in (
        ("shear_x", 0, 1, 1),
        ("shear_y", 1, 0, 1),
        ("translate_x", 0, 2, width),
        ("translate_y", 1, 2, height),
    ):
        argument = values * scale
        here = ops == OP_ID[op]
        np.copyto(maps[row, col], np.rint(argument) if col == 2 else argument, where=here)
    here = ops == OP_ID["rotate"]
    angle = values[here] * (math.pi / 180)  # counter-clockwise on the screen
    cos, sin, x, y = np.cos(angle), np.sin(angle), width / 2, height / 2
    maps[0][:, here] = np.stack([cos, -sin, x - cos * x + sin * y])
    maps[1][:, here] = np.stack([sin, cos, y - sin * x - cos * y])
    return maps

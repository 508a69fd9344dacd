"""Sizes that are named for small images, and fitted to a size of image. No torch here.

| name | what |
|---|---|
| resnet_ti, _s, _m, _b | the residual network: channels of the stem, doubled in every stage |
| vitc_ti, _s | a ViT behind 3x3 convolutions (arXiv 2106.14881): width and depth |
| vitr_ti, _s | a hybrid: a ViT behind residual stages, one unit each |

An image is halved until about 8 x 8 positions are left, which are a ViT's tokens: first in the last
stage, then in the stem, then in the stages between, of which there are as many as are needed. The
stem of a residual network halves last: of an image up to 45 px it sees every pixel (0.824 against
0.819 on CIFAR-10 in two minutes of one core).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

RESNETS = {"resnet_ti": 16, "resnet_s": 24, "resnet_m": 40, "resnet_b": 64}
# Width and depth of the blocks, residual units a stage.
STEMMED = {
    "vitc_ti": (96, 4, 0),
    "vitc_s": (128, 6, 0),
    "vitr_ti": (96, 2, 1),
    "vitr_s": (128, 4, 1),
}
FITTED = (*RESNETS, *STEMMED)
LAST_MAP = 8  # positions a side
HEAD_DIM = 32


class Halvings(NamedTuple):
    """Where an image loses its size."""

    stem_stride: int
    strides: tuple[int, ...]


def halvings(image_size: tuple[int, int], before_stem: int = 1) -> Halvings:
    """Strides of the stem and of two stages or more. image_size: (height, width) px; before_stem:
    how many stages halve before the stem does.
    """
    count = max(0, round(math.log2(max(image_size) / LAST_MAP)))
    in_stem = int(count > before_stem)
    stages = max(2, count - in_stem)
    in_stages = count - in_stem
    return Halvings(1 + in_stem, (1,) * (stages - in_stages) + (2,) * in_stages)


def fitted_fields(name: str, image_size: tuple[int, int] = (32, 32)) -> dict[str, Any]:
    """Fields of the family's config; empty for a name that is none of these."""
    stem_stride, strides = halvings(image_size, before_stem=2 if name in RESNETS else 1)
    size = {"image_size": tuple(image_size)}
    if name in RESNETS:
        width = RESNETS[name]
        widths = tuple(width * 2 ** (1 + stage) for stage in range(len(strides)))
        return size | {
            "stem_width": width,
            "stem_stride": stem_stride,
            "widths": widths,
            "strides": strides,
            "depths": (1,) * len(strides),
            "pool": "mean",
        }
    if name not in STEMMED:
        return {}
    width, depth, units = STEMMED[name]
    widths = tuple(max(8, width >> (len(strides) - 1 - stage)) for stage in range(len(strides)))
    return size | {
        "patch_size": (1, 1),
        "stem": "residual",
        "stem_width": max(8, widths[0] // 2),
        "stem_stride": stem_stride,
        "stem_widths": widths,
        "stem_strides": strides,
        "stem_depths": (units,) * len(strides),
        "width": width,
        "depth": depth,
        "num_heads": width // HEAD_DIM,
        "mlp_dim": 2 * width,
        "pool": "gap",
        "posemb": "sincos_2d",
    }

"""Named sizes of the residual network for small images, fitted to a size of image. No torch here.

The stem has so many channels, each stage twice as many as what is before it. An image is halved
until about 8 x 8 positions are left: first in the last stage, then in the stem, then in the stages
between, of which there are as many as are needed.
"""

from __future__ import annotations

import math
from typing import Any

STEM_WIDTHS = {"resnet_ti": 16, "resnet_s": 24, "resnet_m": 40, "resnet_b": 64}
RESNETS = list(STEM_WIDTHS)
LAST_MAP = 8  # positions a side


def resnet_fields(name: str, image_size: tuple[int, int] = (32, 32)) -> dict[str, Any]:
    """Fields of `ResNetConfig`; empty for an unknown name. image_size: (height, width) px."""
    width = STEM_WIDTHS.get(name)
    if width is None:
        return {}
    halvings = max(0, round(math.log2(max(image_size) / LAST_MAP)))
    in_stem = int(halvings > 1)
    in_stages = halvings - in_stem
    stages = max(2, in_stages)
    return {
        "image_size": tuple(image_size),
        "stem_width": width,
        "stem_stride": 1 + in_stem,
        "widths": tuple(width * 2 ** (1 + stage) for stage in range(stages)),
        "strides": (1,) * (stages - in_stages) + (2,) * in_stages,
        "depths": (1,) * stages,
        "pool": "max",
    }

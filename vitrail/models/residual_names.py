"""Named sizes of the residual network for small images. No torch here.

The stem has so many channels, the stages twice and four times as many. `fitted` gives the strides
that leave a last map of about 8 x 8 positions.
"""

from __future__ import annotations

from typing import Any

STEM_WIDTHS = {"resnet_ti": 16, "resnet_s": 24, "resnet_m": 40, "resnet_b": 64}
RESNETS = list(STEM_WIDTHS)


def resnet_fields(name: str) -> dict[str, Any]:
    """Fields of `ResNetConfig` for 32 px; empty for an unknown name."""
    width = STEM_WIDTHS.get(name)
    if width is None:
        return {}
    return {
        "image_size": (32, 32),
        "stem_width": width,
        "stem_stride": 2,
        "widths": (2 * width, 4 * width),
        "strides": (1, 2),
        "depths": (1, 1),
        "pool": "max",
    }

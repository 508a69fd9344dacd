"""Architecture of a BiT-ResNet as a frozen record. No torch here.

Sources: Big Transfer (arXiv 1912.11370) and its code (`bit_pytorch/models.py`): pre-activation
units ("v2"), the baseline of the ViT paper; big_vision `models/bit.py`: the same sizes after
activation, GroupNorm in root and shortcut ("v1_gn"). Both standardise every kernel but the head's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from vitrail.config import Section
from vitrail.models.layers.fields import (
    Depths,
    Eps,
    Root,
    StdForm,
    refuse_first,
    refuse_size,
    refuse_unknown,
    validated,
)
from vitrail.models.layers.stages import Unit, check_width, root_sizes, units
from vitrail.setting_values import Size

# Units per stage by the name's number of layers (big_vision `models/bit.py`).
DEPTHS: dict[int, tuple[int, ...]] = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
STEM_WIDTH = 64  # channels of the root at width factor 1
# How each style was trained: standardisation as in BiT's code, and Flax's.
STYLES: dict[str, dict[str, Any]] = {
    "v2": {"std_eps": 1e-10, "std_form": "inside", "gn_eps": 1e-5},
    "v1_gn": {"std_eps": 1e-5, "std_form": "outside", "gn_eps": 1e-6},
}


class BiTConfig(Section):
    """Every choice of architecture. Sizes are (height, width) in pixels."""

    family: ClassVar[Literal["bit"]] = "bit"

    image_size: Size
    """Image that the model sees, (height, width) px."""
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    """Channels of the image."""
    depths: Annotated[Depths, Field(min_length=1)]
    """Units of each stage."""
    width_factor: Annotated[float, Field(gt=0, le=64)] = 1.0
    """Multiple of 64 channels in the root and of all widths behind it."""
    style: Literal["v2", "v1_gn"] = "v2"
    """Norm and activation before the convolutions (BiT), or after them (big_vision)."""
    stem: Root = "imagenet"
    """Root: 7x7 at stride 2 and a pool, or 3x3 at stride 1 for images of about 32 px."""
    std_eps: Eps = 1e-10
    """Of standardised kernels; not given: the style's. timm: 1e-8."""
    std_form: StdForm = "inside"
    """Divide by deviation + eps (Flax), or by the root of variance + eps; else the style's."""
    gn_eps: Eps = 1e-5
    """Of GroupNorm; not given: the style's."""
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Outputs of the head; 0: no head, the model returns features."""
    head_bias_init: Annotated[float, Field(ge=-100, le=100)] = 0.0
    """First value of the head's bias; below 0 for a sigmoid loss."""

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fills in the style's numbers. Raises UsageError VIT-211, VIT-222 or VIT-230."""
        if isinstance(values, Mapping):
            refuse_unknown(values, cls.model_fields)
            values = {**STYLES.get(str(values.get("style", "v2")), {}), **values}
        config = validated(handler, values)
        check_width(config.stem_width, f"width_factor {config.width_factor:g}")
        weights = sum(17 * unit.num_mid**2 for unit in config.units)
        refuse_size(
            weights + config.num_features * config.num_classes,
            "Choose a smaller width_factor or fewer units (depths).",
        )
        refuse_first(
            {
                "head_bias_init has no effect without a head (num_classes=0)": (
                    config.head_bias_init and not config.num_classes
                ),
            }
        )
        return config

    @property
    def stem_width(self) -> int:
        """Channels of the root."""
        return round(STEM_WIDTH * self.width_factor)

    @property
    def units(self) -> list[Unit]:
        """Every bottleneck in order."""
        size = root_sizes(self.image_size, self.stem)[1]
        return units(self.depths, self.stem_width, size)

    @property
    def map_size(self) -> tuple[int, int]:
        """The last map, (h, w)."""
        return self.units[-1].out_size

    @property
    def num_features(self) -> int:
        """Channels that enter the head."""
        return self.units[-1].num_out

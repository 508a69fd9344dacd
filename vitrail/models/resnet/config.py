"""Architecture of a residual network for small images and small budgets, as a frozen record.

A stem of one 3x3 convolution, stages that open with a 3x3 convolution of their own (or with a unit
whose shortcut is a 1x1 convolution, as in arXiv 1512.03385), and a maximum or mean over the last
map. Units are basic or bottleneck; norms are BatchNorm (arXiv 1502.03167), GroupNorm (arXiv
1803.08494), or GroupNorm with standardised kernels (arXiv 1903.10520), as BiT has them. No torch
here. What the paper calls BiT is `models/bit/config.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, model_validator

from vitrail.config import Section
from vitrail.models.layers.fields import (
    Eps,
    as_numbers,
    refuse_first,
    refuse_size,
    refuse_unknown,
    validated,
)
from vitrail.models.layers.stages import Pair, halved
from vitrail.setting_values import Size

Norm = Literal["batch", "group", "group_std"]
Block = Literal["basic", "bottleneck"]
MOST_STAGES = 6
Widths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=16_384)], ...],
    Field(max_length=MOST_STAGES),
    BeforeValidator(as_numbers),
]
Strides = Annotated[
    tuple[Annotated[int, Field(ge=1, le=4)], ...],
    Field(max_length=MOST_STAGES),
    BeforeValidator(as_numbers),
]
Units = Annotated[  # a stage may be its opening convolution alone
    tuple[Annotated[int, Field(ge=0, le=256)], ...],
    Field(max_length=MOST_STAGES),
    BeforeValidator(as_numbers),
]


class Conv(NamedTuple):
    """One convolution and its norm: channels, a square kernel, (height, width) before and after."""

    num_in: int
    num_out: int
    kernel: int
    stride: int
    in_size: Pair
    out_size: Pair


class ResidualUnit(NamedTuple):
    """What maps of one stage pass through: its convolutions in order, and the one beside them."""

    stage: int
    convs: tuple[Conv, ...]
    shortcut: Conv | None
    is_sum: bool  # false: the convolution that opens a stage

    @property
    def num_in(self) -> int:
        """Channels of its input."""
        return self.convs[0].num_in

    @property
    def num_out(self) -> int:
        """Channels of its output."""
        return self.convs[-1].num_out

    @property
    def in_size(self) -> Pair:
        """The map that it sees."""
        return self.convs[0].in_size

    @property
    def out_size(self) -> Pair:
        """The map that it gives."""
        return self.convs[-1].out_size


class Stages(NamedTuple):
    """What residual stages are made of; of a whole network, or of a hybrid's stem."""

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    depths: tuple[int, ...]
    block: Block
    opening: str

    def units(self, channels: int, size: Pair) -> list[ResidualUnit]:
        """All units in order, behind a stem of so many channels that gives maps of `size`."""
        found: list[ResidualUnit] = []
        for stage, (width, stride, depth) in enumerate(
            zip(self.widths, self.strides, self.depths, strict=True)
        ):
            if self.opening == "conv":
                conv = _conv(channels, width, 3, stride, size)
                found.append(ResidualUnit(stage, (conv,), None, False))
                channels, size, stride = width, conv.out_size, 1
            for _ in range(depth):
                unit = _unit(stage, self.block, channels, width, stride, size)
                found.append(unit)
                channels, size, stride = width, unit.out_size, 1
        return found

    def problems(self, prefix: str) -> dict[str, object]:
        """What is wrong, as message to truth. prefix: of the fields' names."""
        lengths = {len(self.widths), len(self.strides), len(self.depths)}
        return {
            f"{prefix}widths, {prefix}strides and {prefix}depths need a number for each stage: got "
            f"{len(self.widths)}, {len(self.strides)} and {len(self.depths)}": len(lengths) > 1,
            f"opening='projection' needs a unit in each stage; depths {self.depths}": (
                self.opening == "projection" and 0 in self.depths
            ),
            f"block='bottleneck' needs widths in multiples of 4, got {self.widths}": (
                self.block == "bottleneck" and any(width % 4 for width in self.widths)
            ),
        }


def _conv(num_in: int, num_out: int, kernel: int, stride: int, size: Pair) -> Conv:
    return Conv(num_in, num_out, kernel, stride, size, halved(size, stride))


def _unit(
    stage: int, block: Block, num_in: int, num_out: int, stride: int, size: Pair
) -> ResidualUnit:
    after = halved(size, stride)
    if block == "basic":
        convs: tuple[Conv, ...] = (
            _conv(num_in, num_out, 3, stride, size),
            _conv(num_out, num_out, 3, 1, after),
        )
    else:
        mid = num_out // 4
        convs = (
            _conv(num_in, mid, 1, 1, size),
            _conv(mid, mid, 3, stride, size),
            _conv(mid, num_out, 1, 1, after),
        )
    is_changed = num_in != num_out or stride != 1
    shortcut = _conv(num_in, num_out, 1, stride, size) if is_changed else None
    return ResidualUnit(stage, convs, shortcut, True)


class ResNetConfig(Section):
    """Every choice of architecture. Sizes are (height, width) in pixels."""

    family: ClassVar[Literal["resnet"]] = "resnet"

    image_size: Size
    """Image that the model sees, (height, width) px."""
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    """Channels of the image."""
    stem_width: Annotated[int, Field(ge=1, le=16_384)] = 24
    """Channels of the first convolution."""
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 2
    """Stride of the first convolution."""
    widths: Annotated[Widths, Field(min_length=1)] = (48, 96)
    """Channels of each stage."""
    strides: Annotated[Strides, Field(min_length=1)] = (1, 2)
    """Stride of what opens each stage."""
    depths: Annotated[Units, Field(min_length=1)] = (1, 1)
    """Residual units of each stage, behind what opens it."""
    block: Block = "basic"
    """Unit: two 3x3 convolutions, or three with a quarter of the channels inside."""
    opening: Literal["conv", "projection"] = "conv"
    """What changes size and channels: a convolution of its own, or the first unit."""
    relu: Literal["branch", "sum"] = "branch"
    """x + relu(norm(...)), or relu(x + norm(...)) as in arXiv 1512.03385."""
    norm: Norm = "batch"
    """BatchNorm, GroupNorm, or GroupNorm with standardised kernels."""
    norm_eps: Eps = 1e-5
    """Added to the variance in the norms."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of a batch in BatchNorm's running mean and variance."""
    pool: Literal["mean", "max"] = "mean"
    """What becomes of the last map."""
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Outputs of the head; 0: no head, the model returns features."""
    head_bias_init: Annotated[float, Field(ge=-100, le=100)] = 0.0
    """First value of the head's bias; below 0 for a sigmoid loss."""

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Raises UsageError VIT-211 or VIT-222."""
        if isinstance(values, Mapping):
            refuse_unknown(values, cls.model_fields)
        config = validated(handler, values)
        default = cls.model_fields["norm_momentum"].default
        refuse_first(
            config.stages.problems("")
            | {
                "norm_momentum has no effect: only norm='batch' keeps running values": (
                    config.norm != "batch" and config.norm_momentum != default
                ),
                "block='bottleneck' has no effect without a unit (depths)": (
                    config.block != "basic" and not any(config.depths)
                ),
                "relu='sum' has no effect without a unit (depths)": (
                    config.relu != "branch" and not any(config.depths)
                ),
                "head_bias_init has no effect without a head (num_classes=0)": (
                    config.head_bias_init and not config.num_classes
                ),
            }
        )
        weights = sum(conv_weights(conv) for conv in config.convs)
        refuse_size(
            weights + config.num_features * config.num_classes,
            "Choose smaller widths or fewer units (depths).",
        )
        return config

    @property
    def stages(self) -> Stages:
        """The fields of the stages."""
        return Stages(self.widths, self.strides, self.depths, self.block, self.opening)

    @property
    def stem_conv(self) -> Conv:
        """The first convolution."""
        return stem_conv(self.channels, self.stem_width, self.stem_stride, self.image_size)

    @property
    def units(self) -> list[ResidualUnit]:
        """Every unit in order."""
        return self.stages.units(self.stem_width, self.stem_conv.out_size)

    @property
    def convs(self) -> list[Conv]:
        """Every convolution, each with its norm."""
        return [self.stem_conv, *convs_of(self.units)]

    @property
    def map_size(self) -> tuple[int, int]:
        """The last map, (h, w)."""
        return self.units[-1].out_size

    @property
    def num_features(self) -> int:
        """Channels that enter the head."""
        return self.widths[-1]


def stem_conv(channels: int, width: int, stride: int, image_size: Pair) -> Conv:
    """The convolution that sees the pixels."""
    return _conv(channels, width, 3, stride, image_size)


def convs_of(units: Sequence[ResidualUnit]) -> list[Conv]:
    """The convolutions of units, shortcuts included."""
    return [
        conv
        for unit in units
        for conv in (*unit.convs, *([unit.shortcut] if unit.shortcut else []))
    ]


def conv_weights(conv: Conv) -> int:
    """Numbers of its kernel."""
    return conv.num_in * conv.num_out * conv.kernel**2

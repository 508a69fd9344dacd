"""The fields of a Vision Transformer's architecture, and the sizes that follow from them. No torch.

The record that is used, with its checks, is `ViTConfig` of models/vit/config.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vitrail.config import Section, Size
from vitrail.models.layers.fields import (
    Depths,
    Eps,
    OptionalGrid,
    OptionalScale,
    OptionalSize,
    Root,
    Share,
    StdForm,
)
from vitrail.models.layers.stages import Pair, Unit, halved, root_sizes, units
from vitrail.models.resnet.config import (
    Conv,
    Norm,
    ResidualUnit,
    Stages,
    Strides,
    Units,
    Widths,
    convs_of,
    stem_conv,
)

Pool = Literal["cls", "gap", "map", "cls_gap", "seq"]
Posemb = Literal[
    "none", "learned", "learned_2d", "sincos_2d", "relative", "rope_2d", "learned_rope_2d"
]
Gelu = Literal["gelu", "gelu_tanh", "quick_gelu", "relu"]
Order = Literal["pre", "post", "branch", "between"]
ADDED = ("learned", "learned_2d", "sincos_2d", "learned_rope_2d")  # posemb that is added to tokens
LEARNED = ("learned", "learned_rope_2d")  # with a table of one row a token
ROTARY = ("rope_2d", "learned_rope_2d")  # that turns queries and keys
WITH_CLS = ("cls", "cls_gap")  # pools that read the cls token


class ViTFields(Section):
    """Every choice of architecture, unchecked. Sizes are (height, width) in pixels."""

    family: ClassVar[Literal["vit"]] = "vit"

    image_size: Size
    patch_size: Size  # behind a stem: positions of its feature map
    # The image is no multiple of the patch; what no whole patch covers, at the bottom and at the
    # right, is not seen (SigLIP so400m: 384 px, patch 14). For weights that were trained so.
    drop_rest: bool = False
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    width: Annotated[int, Field(ge=1, le=16_384)]
    depth: Annotated[int, Field(ge=1, le=256)]
    num_heads: Annotated[int, Field(ge=1, le=512)]
    # Of swiglu: the size after the gate; the packed first layer has 2 x mlp_dim rows.
    mlp_dim: Annotated[int, Field(ge=1, le=131_072)]
    # 0: no head, the model returns features.
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    # gap: mean of the patch tokens after the final norm. map: attention pooling by a learned probe.
    # cls_gap: cls token and mean side by side. seq: mean weighted by a learned score (CCT).
    pool: Pool = "cls"
    # Where not given, true when the pool reads it; with gap or map it is present, not in the mean.
    cls_token: bool = True
    # map: heads and hidden width where they are not those of the blocks; whether the pooling sees
    # the prefix tokens.
    map_heads: OptionalSize = None
    map_mlp_dim: OptionalSize = None
    map_prefix: bool = True
    norm_after_pool: bool = False  # gap: the final norm follows the mean (timm's fc_norm)
    # false: the mean of what the last block gives, as transformers' CLIP classifiers read it
    final_norm: bool = True
    posemb: Posemb = "learned"
    # Whether the learned table has rows for cls (and dist); where not given, true when it can be.
    posemb_prefix: bool = False
    # Table 8. stem: added once; every: also to the input of every later block, from a table of its
    # own each; shared: from the same table each time.
    posemb_at: Literal["stem", "every", "shared"] = "stem"
    # Rotary, where a patch is. centred: from -1 to 1, times 2 pi (DINOv3). index: row and column,
    # counted from rope_start (prefix tokens are at 0), stretched to rope_grid (h, w) where that is
    # given (EVA02). The periods are rope_base^(k / (head_dim / 4)).
    rope: Literal["centred", "index"] = "centred"
    rope_base: Annotated[float, Field(gt=1, le=1e6)] = 100.0
    rope_start: Annotated[float, Field(ge=0, le=1024)] = 0.0
    rope_grid: OptionalGrid = None
    # Extra tokens between cls and patches, without posemb and not in the mean.
    num_registers: Annotated[int, Field(ge=0, le=1024)] = 0
    layer_scale: OptionalScale = None  # initial value: 1e-4 in DeiT III, 1e-5 in DINOv2
    qk_norm: bool = False
    mlp: Literal["gelu", "swiglu"] = "gelu"
    # By erf; gelu_tanh is Flax's default, quick_gelu OpenAI's, relu nn.TransformerEncoder's.
    gelu: Gelu = "gelu"
    # Where a block normalises. pre: x + f(norm(x)), the paper's. post: norm(x + f(x)), the default
    # of nn.TransformerEncoder. branch: x + norm(f(x)). between: attention as pre, then the MLP is
    # added to what its norm gives (SHI-Labs' CCT).
    block: Order = "pre"
    # Linear over depth from 0 to the rate (DeiT), or the same rate everywhere (DeiT III).
    drop_path: Share = 0.0
    drop_path_schedule: Literal["linear", "constant"] = "linear"
    dropout: Share = 0.0  # after posemb, attention projection, GELU and the second MLP layer
    representation_size: OptionalSize = None  # tanh layer before the head
    distillation_token: bool = False  # DeiT: second token and second head
    ln_eps: Annotated[float, Field(gt=0, le=1e-2)] = 1e-6
    head_bias_init: Annotated[float, Field(ge=-100, le=100)] = 0.0  # below 0 for a sigmoid loss
    pre_norm: bool = False  # CLIP: LayerNorm before the first block, patch projection without bias
    # resnet: the hybrid of section 3.1. conv: convolutions that make the tokens themselves (CCT).
    # residual: the stages of `models/resnet/config.py`; with no unit in them a stem of 3x3
    # convolutions.
    stem: Literal["none", "resnet", "conv", "residual"] = "none"
    stem_stages: Depths = ()  # resnet: units per stage; none: the root only
    # Channels of the root (64 x width factor); of conv: between two convolutions; of residual: of
    # the first convolution.
    stem_width: Annotated[int, Field(ge=1, le=16_384)] = 64
    stem_root: Root = "imagenet"
    stem_convs: Annotated[int, Field(ge=1, le=8)] = 1  # conv: each with ReLU and a 3x3/2 pool
    stem_kernel: Annotated[int, Field(ge=3, le=31)] = 3
    # residual: stride of the first convolution; of each stage channels, stride and units.
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 2
    stem_widths: Widths = ()
    stem_strides: Strides = ()
    stem_depths: Units = ()
    stem_norm: Norm = "batch"
    std_eps: Eps = 1e-5  # of the stem's standardised kernels; timm: 1e-8, inside
    std_form: StdForm = "outside"
    gn_eps: Eps = 1e-6  # of the stem's GroupNorm; timm: 1e-5

    @property
    def stem_units(self) -> list[Unit]:
        """Every bottleneck of a resnet stem in order."""
        if self.stem != "resnet":
            return []
        size = root_sizes(self.image_size, self.stem_root)[1]
        return units(self.stem_stages, self.stem_width, size)

    @property
    def stem_conv(self) -> Conv:
        """The first convolution of a residual stem."""
        return stem_conv(self.channels, self.stem_width, self.stem_stride, self.image_size)

    @property
    def stem_residuals(self) -> list[ResidualUnit]:
        """Every unit of a residual stem in order."""
        if self.stem != "residual":
            return []
        stages = Stages(self.stem_widths, self.stem_strides, self.stem_depths, "basic", "conv")
        return stages.units(self.stem_width, self.stem_conv.out_size)

    @property
    def residual_convs(self) -> list[Conv]:
        """Every convolution of a residual stem, each with its norm."""
        if self.stem != "residual":
            return []
        return [self.stem_conv, *convs_of(self.stem_residuals)]

    @property
    def conv_stride(self) -> int:
        """Stride of each convolution of a conv stem (CCT: 1 up to 5x5, 2 at 7x7)."""
        return max(1, self.stem_kernel // 2 - 1)

    @property
    def map_size(self) -> tuple[int, int]:
        """What is cut into patches, (h, w): the image, or the stem's feature map."""
        size: Pair = self.image_size
        if self.stem == "resnet":
            found = self.stem_units
            return found[-1].out_size if found else root_sizes(size, self.stem_root)[1]
        if self.stem == "residual":
            residuals = self.stem_residuals
            return residuals[-1].out_size if residuals else self.stem_conv.out_size
        for _ in range(self.stem_convs if self.stem == "conv" else 0):
            size = halved(halved(size, self.conv_stride))
        return size

    @property
    def map_channels(self) -> int:
        """Channels of what is cut into patches."""
        if self.stem == "none":
            return self.channels
        if self.stem == "conv":
            return self.width
        if self.stem == "residual":
            return self.stem_widths[-1] if self.stem_widths else self.stem_width
        stages = len(self.stem_stages)
        return self.stem_width * (4 * 2 ** (stages - 1) if stages else 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row, (h, w)."""
        height, width = self.map_size
        return height // self.patch_size[0], width // self.patch_size[1]

    @property
    def seen_size(self) -> tuple[int, int]:
        """(height, width) px of the image that patches cover, from the top left."""
        if not self.drop_rest:
            return self.image_size
        (h, w), (ph, pw) = self.grid, self.patch_size
        return h * ph, w * pw

    @property
    def num_patches(self) -> int:
        """Tokens made from pixels, h x w."""
        return self.grid[0] * self.grid[1]

    @property
    def num_prefix(self) -> int:
        """Tokens before the patches: cls, dist, registers, in this order."""
        return int(self.cls_token) + int(self.distillation_token) + self.num_registers

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, N = prefix + patches."""
        return self.num_prefix + self.num_patches

    @property
    def posemb_rows(self) -> int:
        """Rows of the learned 1-D table."""
        return self.num_patches + (
            self.num_prefix - self.num_registers if self.posemb_prefix else 0
        )

    @property
    def is_added(self) -> bool:
        """Whether positions are added to tokens."""
        return self.posemb in ADDED

    @property
    def is_learned(self) -> bool:
        """Whether there is a learned table of one row a token."""
        return self.posemb in LEARNED

    @property
    def is_rotary(self) -> bool:
        """Whether queries and keys are turned by their patch's position."""
        return self.posemb in ROTARY

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.num_heads

    @property
    def pooled_width(self) -> int:
        """Channels after pooling."""
        return 2 * self.width if self.pool == "cls_gap" else self.width

    @property
    def num_features(self) -> int:
        """Channels that enter the head."""
        return self.representation_size or self.pooled_width

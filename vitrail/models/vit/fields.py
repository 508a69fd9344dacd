"""The fields of a Vision Transformer's architecture, and the sizes that follow from them. No torch.

The record that is used, with its checks, is `ViTConfig` of models/vit/config.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vitrail.config import Section
from vitrail.models.layers.fields import (
    Depths,
    Eps,
    OptionalGrid,
    OptionalScale,
    OptionalSize,
    Root,
    Share,
    Sizes,
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
from vitrail.setting_values import Size

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
    """Image that the model sees, (height, width) px."""
    patch_size: Size
    """Patch, (height, width) px; behind a stem positions of its feature map."""
    drop_rest: bool = False
    """Leave out what no whole patch covers, at the bottom and at the right, for weights that were
    trained so (SigLIP so400m: 384 px, patch 14)."""
    patch_sizes: Sizes = ()
    """FlexiViT: patches, px, of which training draws one for each step and prediction takes any
    (--patch); patch_size is the one it takes by itself. Not given: patch_size alone."""
    patch_kernel: OptionalGrid = None
    """Patch, (height, width) px, of the kernel that is kept, with patch_sizes; not given: the
    largest of them."""
    posemb_grid: OptionalGrid = None
    """Grid (h, w) of the position table that is kept, with patch_sizes; not given: that of
    patch_size."""
    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    """Channels of the image."""
    width: Annotated[int, Field(ge=1, le=16_384)]
    """Channels of a token."""
    depth: Annotated[int, Field(ge=1, le=256)]
    """Blocks."""
    num_heads: Annotated[int, Field(ge=1, le=512)]
    """Attention heads of a block; a divisor of width."""
    mlp_dim: Annotated[int, Field(ge=1, le=131_072)]
    """Hidden channels of the MLP; of swiglu behind the gate, whose packed layer has twice as many
    rows."""
    num_classes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Outputs of the head; 0: no head, the model returns features."""
    pool: Pool = "cls"
    """What becomes of the tokens: the cls token; gap, the mean of the patches; map, attention
    pooling by a learned probe; cls_gap, cls and mean side by side; seq, a mean weighted by a
    learned score (CCT)."""
    cls_token: bool = True
    """Whether there is a cls token; not given: where the pool reads it. It is not in a mean."""
    map_heads: OptionalSize = None
    """Heads of pool map; not given: those of the blocks."""
    map_mlp_dim: OptionalSize = None
    """Hidden channels of the MLP of pool map; not given: those of the blocks."""
    map_prefix: bool = True
    """Whether pool map sees the prefix tokens."""
    norm_after_pool: bool = False
    """With pool gap: the final norm follows the mean (timm's fc_norm)."""
    final_norm: bool = True
    """Whether the last block is followed by a norm (transformers' CLIP classifiers: no)."""
    posemb: Posemb = "learned"
    """Position embeddings: tables that are added, a relative bias, or rotation of queries and keys
    (rope)."""
    posemb_prefix: bool = False
    """Whether the learned table has rows for cls and dist; not given: where it can have."""
    posemb_at: Literal["stem", "every", "shared"] = "stem"
    """Where positions are added (Table 8): once, or at the input of every block, from tables of
    their own or from a shared one."""
    max_patches: OptionalSize = None
    """Variable resolution (NaFlex): an image keeps its aspect ratio and becomes at most so many
    patches; the position table, of image_size, is resized to each. Not for training. Not given:
    every image has image_size."""
    posemb_resize: Literal["bilinear", "bicubic"] = "bilinear"
    """How the table is resized with max_patches, antialiased: bilinear (SigLIP2), bicubic
    (timm)."""
    rope: Literal["centred", "index"] = "centred"
    """Place of a patch: from -1 to 1, times 2 pi (DINOv3), or row and column (EVA02)."""
    rope_base: Annotated[float, Field(gt=1, le=1e6)] = 100.0
    """The periods of rotation are its powers k / (head_dim / 4)."""
    rope_start: Annotated[float, Field(ge=0, le=1024)] = 0.0
    """First row and column, with rope index; prefix tokens are at 0."""
    rope_grid: OptionalGrid = None
    """Grid (h, w) that rows and columns are stretched to, with rope index."""
    num_registers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Extra tokens between cls and patches, without positions and not in a mean."""
    layer_scale: OptionalScale = None
    """First value of a learned scale of each branch: 1e-4 in DeiT III, 1e-5 in DINOv2."""
    qk_norm: bool = False
    """Normalise queries and keys."""
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """Two layers with an activation between, or a gated one."""
    gelu: Gelu = "gelu"
    """The activation: by erf, Flax's default (gelu_tanh), OpenAI's (quick_gelu), or relu."""
    block: Order = "pre"
    """Where a block normalises: pre, x + f(norm(x)), the paper's; post, norm(x + f(x)); branch,
    x + norm(f(x)); between, attention as pre, then the MLP is added to what its norm gives
    (SHI-Labs' CCT)."""
    drop_path: Share = 0.0
    """Probability that a branch is left out in training (stochastic depth)."""
    drop_path_schedule: Literal["linear", "constant"] = "linear"
    """From 0 at the first block to drop_path at the last (DeiT), or the same (DeiT III)."""
    dropout: Share = 0.0
    """Probability behind posemb, attention projection, activation and second MLP layer."""
    patch_drop: Share = 0.0
    """Share of the patch tokens that training leaves out, at random for each image (PatchDropout,
    FLIP)."""
    representation_size: OptionalSize = None
    """Channels of a tanh layer before the head; not given: none."""
    distillation_token: bool = False
    """A second token with a second head (DeiT)."""
    ln_eps: Annotated[float, Field(gt=0, le=1e-2)] = 1e-6
    """Added to the variance in LayerNorm."""
    head_bias_init: Annotated[float, Field(ge=-100, le=100)] = 0.0
    """First value of the head's bias; below 0 for a sigmoid loss."""
    pre_norm: bool = False
    """LayerNorm before the first block, and patch projection without bias (CLIP)."""
    stem: Literal["none", "resnet", "conv", "residual"] = "none"
    """Before the patches: BiT's network (the hybrid of section 3.1), convolutions that make the
    tokens (CCT), or stages of the residual network for small images."""
    stem_stages: Depths = ()
    """Units of each stage of a resnet stem; none: its root only."""
    stem_width: Annotated[int, Field(ge=1, le=16_384)] = 64
    """Channels of a resnet stem's root, between a conv stem's convolutions, or of a residual stem's
    first convolution."""
    stem_root: Root = "imagenet"
    """Root of a resnet stem: 7x7 at stride 2 and a pool, or 3x3 at stride 1."""
    stem_convs: Annotated[int, Field(ge=1, le=8)] = 1
    """Convolutions of a conv stem, each with ReLU and a 3x3 pool at stride 2."""
    stem_kernel: Annotated[int, Field(ge=3, le=31)] = 3
    """Side of a conv stem's kernels; odd."""
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 2
    """Stride of a residual stem's first convolution."""
    stem_widths: Widths = ()
    """Channels of each stage of a residual stem."""
    stem_strides: Strides = ()
    """Stride of each stage of a residual stem."""
    stem_depths: Units = ()
    """Units of each stage of a residual stem; 0: its opening convolution alone."""
    stem_norm: Norm = "batch"
    """Norm of a residual stem; group_std: GroupNorm with standardised kernels."""
    std_eps: Eps = 1e-5
    """Of a resnet stem's standardised kernels; timm: 1e-8."""
    std_form: StdForm = "outside"
    """Divide by deviation + eps (Flax), or by the root of variance + eps (timm)."""
    gn_eps: Eps = 1e-6
    """Of a resnet stem's GroupNorm; timm: 1e-5."""

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
        return self.grid_at(self.patch_size)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Patches per column and row, (h, w), of an image (height, width) px."""
        if self.max_patches is None:
            return self.grid
        return height // self.patch_size[0], width // self.patch_size[1]

    def grid_at(self, patch: tuple[int, int]) -> tuple[int, int]:
        """Patches per column and row, (h, w), of patches (height, width) px."""
        return self.map_size[0] // patch[0], self.map_size[1] // patch[1]

    @property
    def kept_kernel(self) -> tuple[int, int]:
        """Patch, (height, width) px, of the kernel among the weights."""
        if self.patch_kernel is not None or not self.patch_sizes:
            return self.patch_kernel or self.patch_size
        return max(self.patch_sizes, key=lambda size: (size[0] * size[1], size))

    @property
    def kept_grid(self) -> tuple[int, int]:
        """Grid (h, w) of the position table among the weights."""
        return self.posemb_grid or self.grid

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
        """Length of the sequence, N = prefix + patches; with max_patches the longest."""
        return self.num_prefix + (self.max_patches or self.num_patches)

    @property
    def posemb_rows(self) -> int:
        """Rows of the learned 1-D table."""
        return self.kept_grid[0] * self.kept_grid[1] + self.posemb_prefix_rows

    @property
    def posemb_prefix_rows(self) -> int:
        """Rows of it for cls and dist."""
        return self.num_prefix - self.num_registers if self.posemb_prefix else 0

    @property
    def num_kept(self) -> int:
        """Patch tokens of an image that training computes."""
        return max(1, int(self.num_patches * (1 - self.patch_drop)))

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

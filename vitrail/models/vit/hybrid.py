"""Stems that stand before the Transformer: the hybrid's residual network and CCT's convolutions.

Hybrid (arXiv 2010.11929 section 3.1): patches are cut from the feature map of a ResNet with
post-activated units. Parameter names are timm's: `patch_embed.backbone` holds the stem, without
stages directly. A residual stem (`models/resnet/model.py`) stands there in the same way; without
units it is a stack of 3x3 convolutions (arXiv 2106.14881). Compact convolutional tokenizer (arXiv
2104.05704 section 3.3): each convolution is followed by ReLU and a 3x3 max-pool at stride 2, and
the last one's channels are the tokens.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.bit.blocks import RootBlock, Style, create_stages, run_stages
from vitrail.models.layers.matmul import linear
from vitrail.models.layers.std_conv import channels_last
from vitrail.models.layers.tap import Tap
from vitrail.models.resnet.model import Trunk
from vitrail.models.resnet.model import UnitStyle as ResidualStyle
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.layers import PatchEmbed, patchify

NORM_EPS, NORM_MOMENTUM = 1e-5, 0.1  # of a residual stem


class Backbone(nn.Module):
    """Root and stages of a hybrid."""

    def __init__(self, config: ViTConfig, style: Style) -> None:
        super().__init__()
        self.stem = RootBlock(style, config.channels, config.stem_width)
        self.stages = create_stages(style, config.stem_units)

    def forward(self, images: Tensor, *, is_checkpointed: bool = False) -> Tensor:
        """images: (B, C, H, W). Returns (B, map_channels, h, w)."""
        return run_stages(self.stages, self.stem(images), is_checkpointed=is_checkpointed)


class HybridEmbed(nn.Module):
    """Equation 1 on the feature map of a ResNet: each patch of it, flattened, times a matrix."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.backbone = _backbone(config)
        patch, has_bias = config.patch_size, not config.pre_norm
        self.proj = nn.Conv2d(config.map_channels, config.width, patch, patch, bias=has_bias)

    def forward(
        self, images: Tensor, tap: Tap | None = None, *, is_checkpointed: bool = False
    ) -> Tensor:
        """images: (B, C, H, W). Returns (B, P, D), patches in row-major order."""
        if isinstance(self.backbone, Backbone | Trunk):
            x = self.backbone(images, is_checkpointed=is_checkpointed)  # (B, C', h, w)
        else:
            x = self.backbone(images)
        if tap is not None:
            tap.write("feature_map", x)
        patches = patchify(x, self.patch_size)  # (B, P, C'*ph*pw)
        return linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def _backbone(config: ViTConfig) -> Backbone | RootBlock | Trunk:
    """What stands before the patches."""
    if config.stem == "residual":
        style = ResidualStyle(config.stem_norm, NORM_EPS, NORM_MOMENTUM, is_relu_on_sum=False)
        return Trunk(config.stem_conv, config.stem_residuals, style)
    style_of = Style(False, config.stem_root, config.std_eps, config.std_form, config.gn_eps)
    if config.stem_stages:
        return Backbone(config, style_of)
    return RootBlock(style_of, config.channels, config.stem_width)


class ConvEmbed(nn.Module):
    """CCT's tokenizer: one token a position of the last map."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        kernel, count = config.stem_kernel, config.stem_convs
        sizes = [config.channels, *[config.stem_width] * (count - 1), config.width]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel, config.conv_stride, kernel // 2, bias=False)
            for a, b in zip(sizes, sizes[1:], strict=False)
        )

    def forward(
        self, images: Tensor, tap: Tap | None = None, *, is_checkpointed: bool = False
    ) -> Tensor:
        """images: (B, C, H, W). Returns (B, P, D); there is nothing to compute again."""
        x = channels_last(images)
        for conv in self.convs:
            x = F.relu(channels_last(conv(x)), inplace=True)
            x = F.max_pool2d(x, 3, 2, 1)  # (B, C', h, w)
        if tap is not None:
            tap.write("feature_map", x)
        return x.flatten(2).transpose(1, 2)  # (B, P, D)


def create_embedding(config: ViTConfig) -> PatchEmbed | HybridEmbed | ConvEmbed:
    """What makes tokens of images: from pixels, or behind a stem."""
    if config.stem in ("resnet", "residual"):
        return HybridEmbed(config)
    return ConvEmbed(config) if config.stem == "conv" else PatchEmbed(config)

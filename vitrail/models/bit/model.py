"""BiT-ResNet (arXiv 1912.11370), the convolutional baseline of the ViT paper, section 4.1.

Root -> stages -> GroupNorm and ReLU (pre-activated style only) -> mean over the map -> head. Build
it with `create_model`, which also sets the initial values.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.bit.blocks import RootBlock, Style, create_stages, run_stages
from vitrail.models.bit.config import BiTConfig
from vitrail.models.layers.matmul import linear
from vitrail.models.layers.std_conv import group_norm
from vitrail.models.layers.tap import Tap, TapDict, check_images, residual_tap_names


class Head(nn.Module):
    """A dense layer with the weight of a 1x1 convolution, (K, C, 1, 1), as files have it."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(num_features, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, C). Returns (B, K)."""
        return linear(features, self.fc.weight.flatten(1), self.fc.bias)


class BiTResNet(nn.Module):
    """Images to logits.

    With the attribute `checkpoint_activations` set to True, training keeps only the input of each
    unit and computes the unit again in the backward pass; values and gradients are the same.
    """

    def __init__(self, config: BiTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        is_preact = config.style == "v2"
        style = Style(is_preact, config.stem, config.std_eps, config.std_form, config.gn_eps)
        self.stem = RootBlock(style, config.channels, config.stem_width)
        self.stages = create_stages(style, config.units)
        if is_preact:
            self.norm = group_norm(config.num_features, config.gn_eps)
        if config.num_classes:
            self.head = Head(config.num_features, config.num_classes)

    def forward(self, images: Tensor, *, tap: TapDict | None = None) -> Tensor:
        """images: (B, C, H, W) float, normalised. Returns logits (B, K).

        Without a head (num_classes=0): features, (B, num_features).
        tap: see `tap.py`; a dict that receives intermediates by name.
        Raises UsageError: VIT-224 other image shape, VIT-223 unknown name in tap.
        """
        reader = None if tap is None else Tap(tap, residual_tap_names(self.config))
        features = self._features(images, reader)
        if not self.config.num_classes:
            return features
        logits: Tensor = self.head(features)  # (B, K)
        if reader is not None:
            reader.write("logits", logits)
        return logits

    def features(self, images: Tensor, *, tap: TapDict | None = None) -> Tensor:
        """What enters the head, (B, num_features)."""
        reader = None if tap is None else Tap(tap, residual_tap_names(self.config))
        return self._features(images, reader)

    def _features(self, images: Tensor, tap: Tap | None) -> Tensor:
        check_images(images, (self.config.channels, *self.config.image_size))
        x: Tensor = self.stem(images)
        if tap is not None:
            tap.write("stem", x)
        is_checkpointed = self.checkpoint_activations and self.training and tap is None
        x = run_stages(self.stages, x, tap, is_checkpointed=is_checkpointed)  # (B, C, h, w)
        x = F.relu(self.norm(x), inplace=True) if self.config.style == "v2" else x
        pooled = x.mean(dim=(2, 3))  # (B, C)
        if tap is not None:
            tap.write("feature_map", x)
            tap.write("pre_logits", pooled)
        return pooled

"""BiT-ResNet (arXiv 1912.11370), the convolutional baseline of the ViT paper, section 4.1.

Root -> stages -> GroupNorm and ReLU (pre-activated style only) -> mean over the map -> head. Build
it with `create_model`, which also sets the initial values.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitrail.models.bit.blocks import RootBlock, Style, create_stages, run_stages
from vitrail.models.bit.config import BiTConfig
from vitrail.models.layers.residual_net import Head, PooledNet
from vitrail.models.layers.std_conv import group_norm
from vitrail.models.layers.tap import Tap


class BiTResNet(PooledNet):
    """Images to logits."""

    def __init__(self, config: BiTConfig) -> None:
        super().__init__(config)
        self.config = config
        is_preact = config.style == "v2"
        style = Style(is_preact, config.stem, config.std_eps, config.std_form, config.gn_eps)
        self.stem = RootBlock(style, config.channels, config.stem_width)
        self.stages = create_stages(style, config.units)
        if is_preact:
            self.norm = group_norm(config.num_features, config.gn_eps)
        if config.num_classes:
            self.head = Head(config.num_features, config.num_classes)

    def map_of(self, images: Tensor, tap: Tap | None, *, is_checkpointed: bool) -> Tensor:
        """Behind the last norm and ReLU in the pre-activated style."""
        x: Tensor = self.stem(images)
        if tap is not None:
            tap.write("stem", x)
        x = run_stages(self.stages, x, tap, is_checkpointed=is_checkpointed)
        return F.relu(self.norm(x), inplace=True) if self.config.style == "v2" else x

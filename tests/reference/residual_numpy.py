"""The residual network for small images in float64 NumPy, from the definitions and not from the
package: units are walked by the fields of the config, norms are means and variances written out.

Images are (B, C, H, W): BatchNorm in training sees them together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tests.reference.resnet_numpy import correlate
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.vit.config import ViTConfig

Array = NDArray[np.float64]
State = Mapping[str, Array]


class Layers:
    """The network's layers. moved: running values after a pass in training, by name."""

    def __init__(
        self, state: State, norm: str, eps: float, momentum: float, *, is_training: bool
    ) -> None:
        self.state, self.norm, self.eps, self.momentum = state, norm, eps, momentum
        self.is_training = is_training
        self.moved: dict[str, Array] = {}

    def layer(self, x: Array, name: str, stride: int) -> Array:
        """Convolution and norm."""
        kernel = self.state[f"{name}.conv.weight"]
        if self.norm == "group_std":
            kernel = np.stack([(k - k.mean()) / np.sqrt(k.var() + 1e-10) for k in kernel])
        y = np.stack([correlate(one, kernel, stride, "half") for one in x])
        y = self._batch(y, f"{name}.norm") if self.norm == "batch" else self._group(y)
        weight, bias = self.state[f"{name}.norm.weight"], self.state[f"{name}.norm.bias"]
        scaled: Array = y * weight[:, None, None] + bias[:, None, None]
        return scaled

    def _batch(self, y: Array, name: str) -> Array:
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        values = y.swapaxes(0, 1).reshape(y.shape[1], -1)  # (C, n)
        n = values.shape[1]
        if self.is_training and n > 1:
            share = self.momentum
            new, spread = values.mean(1), values.var(1)
            self.moved[f"{name}.running_mean"] = mean + share * (new - mean)
            unbiased = spread * n / (n - 1)
            self.moved[f"{name}.running_var"] = variance + share * (unbiased - variance)
            mean, variance = new, spread
        normed: Array = (y - mean[:, None, None]) / np.sqrt(variance[:, None, None] + self.eps)
        return normed

    def _group(self, y: Array) -> Array:
        out = np.empty_like(y)
        size = y.shape[1] // math.gcd(32, y.shape[1])
        for image in range(len(y)):
            for first in range(0, y.shape[1], size):
                part = y[image, first : first + size]
                normed = (part - part.mean()) / np.sqrt(part.var() + self.eps)
                out[image, first : first + size] = normed
        return out

    def unit(self, x: Array, name: str, stride: int, relu: str, *, is_bottleneck: bool) -> Array:
        """A residual unit."""
        strides = (1, stride, 1) if is_bottleneck else (stride, 1)
        y = x
        for number, one in enumerate(strides, 1):
            y = self.layer(np.maximum(y, 0) if number > 1 else y, f"{name}.conv{number}", one)
        if f"{name}.downsample.conv.weight" in self.state:
            x = self.layer(x, f"{name}.downsample", stride)
        total: Array = np.maximum(x + y, 0) if relu == "sum" else x + np.maximum(y, 0)
        return total


def forward(
    state: State, config: ResNetConfig, images: Array, *, is_training: bool = False
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Every intermediate under the names of `tap`, and the running values that moved."""
    c = config
    layers = Layers(state, c.norm, c.norm_eps, c.norm_momentum, is_training=is_training)
    x = np.maximum(layers.layer(images, "stem", c.stem_stride), 0)
    out = {"stem": x}
    for stage, stride in enumerate(c.strides):
        x = out[f"stage{stage}"] = _stage(layers, f"stages.{stage}.blocks", x, stride, c, stage)
    out["feature_map"] = x
    pooled = x.max(axis=(2, 3)) if c.pool == "max" else x.mean(axis=(2, 3))
    out["pre_logits"] = pooled
    out["logits"] = pooled @ state["head.fc.weight"][:, :, 0, 0].T + state["head.fc.bias"]
    return out, layers.moved


def _stage(layers: Layers, name: str, x: Array, stride: int, c: ResNetConfig, stage: int) -> Array:
    first = 0
    if c.opening == "conv":
        x, first, stride = np.maximum(layers.layer(x, f"{name}.0.conv1", stride), 0), 1, 1
    for index in range(c.depths[stage]):
        is_bottleneck = c.block == "bottleneck"
        x = layers.unit(x, f"{name}.{first + index}", stride, c.relu, is_bottleneck=is_bottleneck)
        stride = 1
    return x


def stem_map(state: State, config: ViTConfig, image: Array) -> Array:
    """The feature map of a residual stem in evaluation, (C', h, w)."""
    c, name = config, "patch_embed.backbone"
    layers = Layers(state, c.stem_norm, 1e-5, 0.1, is_training=False)
    x = np.maximum(layers.layer(image[None], f"{name}.stem", c.stem_stride), 0)
    for stage, stride in enumerate(c.stem_strides):
        blocks = f"{name}.stages.{stage}.blocks"
        x = np.maximum(layers.layer(x, f"{blocks}.0.conv1", stride), 0)
        for index in range(c.stem_depths[stage]):
            x = layers.unit(x, f"{blocks}.{1 + index}", 1, "branch", is_bottleneck=False)
    first: Array = x[0]
    return first

"""Residual networks in float64 NumPy, written from the papers and not from the package.

Convolutions are sums over kernel positions of a padded image; padding is counted by hand. One
image at a time: x is (C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vitrail.models.bit.config import BiTConfig
from vitrail.models.vit.config import ViTConfig

Array = NDArray[np.float64]
State = Mapping[str, Array]
Numbers = tuple[float, str, float]  # std_eps, std_form, gn_eps


def forward(state: State, config: BiTConfig, images: Array) -> dict[str, Array]:
    """images: (B, C, H, W). Returns every intermediate under the names of `tap`, and the logits."""
    per_image = [_forward_one(state, config, image) for image in images]
    return {name: np.stack([one[name] for one in per_image]) for name in per_image[0]}


def _forward_one(state: State, config: BiTConfig, image: Array) -> dict[str, Array]:
    out: dict[str, Array] = {}
    numbers = (config.std_eps, config.std_form, config.gn_eps)
    if config.style == "v1_gn":
        x = out["stem"] = hybrid_root(state, "stem", image, config.stem, numbers)
    else:
        x = conv(image, state["stem.conv.weight"], numbers, *_root_shape(config.stem), "half")
        if config.stem == "imagenet":
            x = max_pool(np.pad(x, ((0, 0), (1, 1), (1, 1))))
        out["stem"] = x
    for stage, depth in enumerate(config.depths):
        for unit in range(depth):
            name, stride = f"stages.{stage}.blocks.{unit}", 2 if stage and not unit else 1
            run = post_unit if config.style == "v1_gn" else pre_unit
            x = run(state, name, x, stride, numbers)
        out[f"stage{stage}"] = x
    if config.style == "v2":
        x = np.maximum(group_norm(x, state, "norm", config.gn_eps), 0)
    out["feature_map"] = x
    features = out["pre_logits"] = x.mean(axis=(1, 2))
    out["logits"] = state["head.fc.weight"][:, :, 0, 0] @ features + state["head.fc.bias"]
    return out


def hybrid_map(state: State, config: ViTConfig, image: Array) -> Array:
    """The feature map of a resnet stem, (C', h, w)."""
    name = "patch_embed.backbone"
    numbers = (config.std_eps, config.std_form, config.gn_eps)
    root = f"{name}.stem" if config.stem_stages else name
    x = hybrid_root(state, root, image, config.stem_root, numbers)
    for stage, depth in enumerate(config.stem_stages):
        for unit in range(depth):
            stride = 2 if stage and not unit else 1
            x = post_unit(state, f"{name}.stages.{stage}.blocks.{unit}", x, stride, numbers)
    return x


def conv_map(state: State, config: ViTConfig, image: Array) -> Array:
    """The feature map of a conv stem: convolution, ReLU, 3x3 maximum with half pads, repeated."""
    x = image
    for index in range(config.stem_convs):
        kernel = state[f"patch_embed.convs.{index}.weight"]
        x = np.maximum(correlate(x, kernel, config.conv_stride, "half"), 0)
        x = max_pool(np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf))
    return x


def _root_shape(root: str) -> tuple[int]:
    return (1,) if root == "small" else (2,)


def hybrid_root(state: State, name: str, image: Array, root: str, numbers: Numbers) -> Array:
    x = conv(image, state[f"{name}.conv.weight"], numbers, *_root_shape(root), "same")
    x = np.maximum(group_norm(x, state, f"{name}.norm", numbers[2]), 0)
    return x if root == "small" else max_pool(same_pad(x, 3, 2, -np.inf))


def pre_unit(state: State, name: str, x: Array, stride: int, numbers: Numbers) -> Array:
    """Norm, ReLU, convolution, three times; the shortcut starts behind the first ReLU."""
    y = active = np.maximum(group_norm(x, state, f"{name}.norm1", numbers[2]), 0)
    y = conv(y, state[f"{name}.conv1.weight"], numbers, 1, "half")
    y = np.maximum(group_norm(y, state, f"{name}.norm2", numbers[2]), 0)
    y = conv(y, state[f"{name}.conv2.weight"], numbers, stride, "half")
    y = np.maximum(group_norm(y, state, f"{name}.norm3", numbers[2]), 0)
    y = conv(y, state[f"{name}.conv3.weight"], numbers, 1, "half")
    projection = state.get(f"{name}.downsample.conv.weight")
    return y + (x if projection is None else conv(active, projection, numbers, stride, "half"))


def post_unit(state: State, name: str, x: Array, stride: int, numbers: Numbers) -> Array:
    """Convolution and norm, three times, with ReLU between; the shortcut has a norm of its own."""
    y = conv(x, state[f"{name}.conv1.weight"], numbers, 1, "same")
    y = np.maximum(group_norm(y, state, f"{name}.norm1", numbers[2]), 0)
    y = conv(y, state[f"{name}.conv2.weight"], numbers, stride, "same")
    y = np.maximum(group_norm(y, state, f"{name}.norm2", numbers[2]), 0)
    y = conv(y, state[f"{name}.conv3.weight"], numbers, 1, "same")
    y = group_norm(y, state, f"{name}.norm3", numbers[2])
    shortcut, projection = x, state.get(f"{name}.downsample.conv.weight")
    if projection is not None:
        shortcut = conv(x, projection, numbers, stride, "same")
        shortcut = group_norm(shortcut, state, f"{name}.downsample.norm", numbers[2])
    total: Array = np.maximum(y + shortcut, 0)
    return total


def conv(x: Array, weight: Array, numbers: Numbers, stride: int, pads: str) -> Array:
    """With the kernel of each output channel standardised."""
    eps, form, _ = numbers
    kernels = []
    for kernel in weight:
        centred = kernel - kernel.mean()
        variance = (centred**2).mean()
        inside = np.sqrt(variance + eps)
        kernels.append(centred / (inside if form == "inside" else np.sqrt(variance) + eps))
    return correlate(x, np.stack(kernels), stride, pads)


def correlate(x: Array, kernel: Array, stride: int, pads: str) -> Array:
    """x: (I, H, W), kernel: (O, I, k, k). Returns (O, ceil(H / stride), ceil(W / stride))."""
    size = kernel.shape[-1]
    half = size // 2
    if pads == "same":
        padded = same_pad(x, size, stride, 0.0)
    else:
        padded = np.pad(x, ((0, 0), (half, half), (half, half)))
    h, w = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    out = np.zeros((kernel.shape[0], h, w))
    for row in range(size):
        for column in range(size):
            part = padded[:, row : row + stride * h : stride, column : column + stride * w : stride]
            out += np.einsum("oi,ihw->ohw", kernel[:, :, row, column], part[:, :h, :w])
    return out


def same_pad(x: Array, size: int, stride: int, value: float) -> Array:
    """TF's rule: as many pads as ceil(length / stride) windows need, of an odd number one more
    behind."""
    pads = [(0, 0)]
    for length in x.shape[1:]:
        outputs = -(-length // stride)
        total = max(0, (outputs - 1) * stride + size - length)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, pads, constant_values=value)


def max_pool(x: Array) -> Array:
    """Windows of 3 x 3 at stride 2 that lie wholly inside."""
    h, w = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    windows = [[x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for j in range(w)] for i in range(h)]
    rows = [np.stack([window.max(axis=(1, 2)) for window in row], axis=-1) for row in windows]
    return np.stack(rows, axis=1)


def group_norm(x: Array, state: State, name: str, eps: float) -> Array:
    """32 groups of neighbouring channels, each with its mean and variance over the image."""
    out = np.empty_like(x)
    for channels in np.array_split(np.arange(len(x)), 32):
        group = x[channels]
        out[channels] = (group - group.mean()) / np.sqrt(group.var() + eps)
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    scaled: Array = out * weight[:, None, None] + bias[:, None, None]
    return scaled

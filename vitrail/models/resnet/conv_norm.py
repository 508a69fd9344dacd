"""A convolution and the norm behind it, as one layer.

BatchNorm (arXiv 1502.03167) normalises by the batch while it is trained and keeps running values of
mean and variance, which are part of the weights (`running_mean`, `running_var` in the state dict).
In evaluation it is a scale and a shift that are known beforehand: they are folded into the kernel,
so that the map is written once and not three times.

What a batch is: the images of one forward pass. With accumulation that is each part of a batch on
its own. A pass that holds a single value a channel (one image whose map has one position) cannot be
normalised by itself and takes the running values. Recomputed activations do not move them a second
time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.layers.stages import GROUPS
from vitrail.models.layers.std_conv import standardised
from vitrail.models.resnet.config import Conv, Norm

STD_EPS = 1e-10  # of standardised kernels, as in BiT's code


class ConvNorm(nn.Module):
    """`conv` without bias (O, I, k, k), padded by half a kernel, and `norm` over its output."""

    def __init__(self, shape: Conv, norm: Norm, eps: float, momentum: float) -> None:
        super().__init__()
        self.kind, self.stride = norm, shape.stride
        self.conv = nn.Conv2d(
            shape.num_in, shape.num_out, shape.kernel, shape.stride, shape.kernel // 2, bias=False
        )
        self.norm = (
            BatchNorm(shape.num_out, eps, momentum)
            if norm == "batch"
            else nn.GroupNorm(math.gcd(GROUPS, shape.num_out), shape.num_out, eps=eps)
        )

    def kernel(self) -> Tensor:
        """What is applied, (O, I, k, k)."""
        weight = self.conv.weight
        return standardised(weight, STD_EPS, "inside") if self.kind == "group_std" else weight

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, I, H, W). Returns (B, O, ceil(H / stride), ceil(W / stride))."""
        weight = self.kernel()
        pads = weight.shape[-1] // 2
        if isinstance(self.norm, BatchNorm) and not self.norm.is_learning:
            scale, shift = self.norm.scale_and_shift()
            return F.conv2d(x, weight * scale.view(-1, 1, 1, 1), shift, self.stride, pads)
        y: Tensor = self.norm(F.conv2d(x, weight, None, self.stride, pads))
        return y


class BatchNorm(nn.Module):
    """Mean and variance of each channel over a batch, or the running ones in evaluation."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.is_frozen = False  # while activations are computed again
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    @property
    def is_learning(self) -> bool:
        """Whether batches count: in training, unless its weights are frozen."""
        return self.training and self.weight.requires_grad

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). In training moves the running values by `momentum`."""
        has_spread = x.shape[0] * x.shape[2] * x.shape[3] > 1
        mean, var = self.running_mean, self.running_var
        if self.is_frozen:  # None would do, but recomputing must save what the first pass saved
            mean, var = mean.clone(), var.clone()
        return F.batch_norm(
            x, mean, var, self.weight, self.bias, has_spread, self.momentum, self.eps
        )

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What it does in evaluation: (C,) both."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


@contextlib.contextmanager
def running_values_kept(module: nn.Module) -> Generator[None, None, None]:
    """While activations of `module` are computed again: no running value moves."""
    norms = [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
    for norm in norms:
        norm.is_frozen = True
    try:
        yield
    finally:
        for norm in norms:
            norm.is_frozen = False

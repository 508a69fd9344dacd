"""Convolutions with standardised kernels, and the two ways of padding that published models use.

Weight standardisation (arXiv 1903.10520): each output channel's kernel has mean 0 and deviation 1
over its inputs and positions when it is applied; the stored kernel is free. Two forms of the
denominator are in use, and files need theirs (`StdForm`). Biased variance in both.

"half" pads by half a kernel on both sides (BiT). "same" is TF's rule (Flax, big_vision, the
hybrids): ceil(size / stride) outputs, of an odd number of pads the larger half behind.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vitrail.models.layers.fields import StdForm
from vitrail.models.layers.matmul import linear
from vitrail.models.layers.stages import GROUPS, same_pads

FEW_IMAGES = 16
TINY = 1e-30  # variance of a kernel that is constant; it becomes 0, and not 0 / 0


class StdConv2d(nn.Module):
    """A convolution without bias whose kernel, `weight` (O, I, k, k), is standardised when used."""

    def __init__(
        self,
        num_in: int,
        num_out: int,
        kernel: int,
        *,
        stride: int = 1,
        pads: str = "half",
        eps: float,
        form: StdForm,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_out, num_in, kernel, kernel))
        self.stride, self.pads, self.eps, self.form = stride, pads, eps, form

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, I, H, W). Returns (B, O, ceil(H / stride), ceil(W / stride))."""
        weight = standardised(self.weight, self.eps, self.form)
        kernel = self.weight.shape[-1]
        if kernel == self.stride == 1 and _is_few(x):
            return pointwise(x, weight)
        if self.pads == "half" or self.stride == 1:
            return F.conv2d(x, weight, None, self.stride, kernel // 2)
        return F.conv2d(same_padded(x, kernel, self.stride), weight, None, self.stride)


def _is_few(x: Tensor) -> bool:
    """Whether torch 2.13 would hand a 1x1 convolution to MKL: one thread and less than 16 images
    (aten `use_mkldnn`). On AMD that is half as fast (see `matmul.py`): 8 maps of 512 x 20 x 20 to
    128 channels, forward and backward on one core of an EPYC, 13.5 ms and as a dense layer 6.0.
    """
    return not torch.compiler.is_compiling() and x.device.type == "cpu" and x.shape[0] < FEW_IMAGES


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution as a dense layer on every position, whose channels lie side by side.

    x: (B, I, H, W), weight: (O, I, 1, 1). Returns (B, O, H, W).
    """
    return linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)


def standardised(weight: Tensor, eps: float, form: StdForm) -> Tensor:
    """weight: (O, I, k, k). Returns the kernel that is applied."""
    rows = weight.flatten(1)  # (O, I*k*k)
    if form == "inside":
        return F.layer_norm(rows, rows.shape[1:], eps=eps).view_as(weight)
    if torch.compiler.is_compiling():
        variance, mean = torch.var_mean(rows, dim=1, correction=0, keepdim=True)
        return ((rows - mean) / (variance.sqrt() + eps)).view_as(weight)
    scaled: Tensor = _OutsideForm.apply(rows, eps)  # type: ignore[no-untyped-call]
    return scaled.view_as(weight)


class _OutsideForm(torch.autograd.Function):
    """(w - mean) / (std + eps) by torch's fused LayerNorm, which reads each row twice, not seven
    times: 23 M weights take 20 ms instead of 120.

    With x = (w - mean) / std and f = std / (std + eps) the value is f x, and
    dL/dw = f / std (g - mean(g) - f x mean(g x)), since f' = (1 - f) f / std.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, eps: float) -> Tensor:
        """rows: (O, n)."""
        x, _, inverse = torch.native_layer_norm(rows, rows.shape[1:], None, None, TINY)
        factor = 1 / (1 + eps * inverse)  # (O, 1)
        ctx.save_for_backward(x, inverse, factor)
        return x * factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """dL/d(f x): (O, n). Returns dL/dw."""
        (g,) = grads
        x, inverse, factor = ctx.saved_tensors
        slope = (g * x).mean(dim=1, keepdim=True) * factor
        return (g - g.mean(dim=1, keepdim=True)).addcmul_(x, slope, value=-1) * (
            factor * inverse
        ), None


def channels_last(x: Tensor) -> Tensor:
    """x: (B, C, H, W) with the channels of a position side by side in memory, 1.1 to 1.3 times as
    fast on a CPU. With one channel the layout is ambiguous and torch takes the other one, so a
    stem says it again behind its first convolution."""
    return x.contiguous(memory_format=torch.channels_last)


def same_padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """x: (B, C, H, W) with TF's zeros around it."""
    top, bottom = same_pads(x.shape[2], kernel, stride)
    left, right = same_pads(x.shape[3], kernel, stride)
    return F.pad(x, (left, right, top, bottom)) if top + bottom + left + right else x


def max_pool_same(x: Tensor) -> Tensor:
    """3x3 at stride 2, padded as TF's SAME with -inf. x: (B, C, H, W).

    On an even size that is one column behind, which ceil_mode adds; on an odd one, one at each end.
    """
    pads = (x.shape[2] % 2, x.shape[3] % 2)
    return F.max_pool2d(x, 3, 2, pads, ceil_mode=True)


def max_pool_zero(x: Tensor) -> Tensor:
    """3x3 at stride 2 behind a frame of zeros, as in BiT: unlike -inf, zeros beat what is below.

    x: (B, C, H, W). Returns (B, C, ceil(H / 2), ceil(W / 2)).
    """
    return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)


def group_norm(num_channels: int, eps: float) -> nn.GroupNorm:
    """32 groups, as everywhere in BiT and the hybrids."""
    return nn.GroupNorm(GROUPS, num_channels, eps=eps)

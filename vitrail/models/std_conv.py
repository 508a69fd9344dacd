"""Convolutions with standardised kernels, and the two ways of padding that published models use.

Weight standardisation (arXiv 1903.10520): each output channel's kernel has mean 0 and deviation 1
over its inputs and positions when it is applied; the stored kernel is free. Two forms of the
denominator are in use, and files need theirs (`StdForm`). Biased variance in both.

"half" pads by half a kernel on both sides (BiT). "same" is TF's rule (Flax, big_vision, the
hybrids): ceil(size / stride) outputs, of an odd number of pads the larger half behind.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.fields import StdForm
from vitrail.models.stages import GROUPS


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
        if self.pads == "half" or self.stride == 1:
            return F.conv2d(x, weight, None, self.stride, kernel // 2)
        return F.conv2d(same_padded(x, kernel, self.stride), weight, None, self.stride)


def standardised(weight: Tensor, eps: float, form: StdForm) -> Tensor:
    """weight: (O, I, k, k). Returns the kernel that is applied, in float32 at least."""
    rows = weight.flatten(1)  # (O, I*k*k)
    if form == "inside":
        return F.layer_norm(rows, rows.shape[1:], eps=eps).view_as(weight)
    variance, mean = torch.var_mean(rows, dim=1, correction=0, keepdim=True)
    return ((rows - mean) / (variance.sqrt() + eps)).view_as(weight)


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis: 7 at stride 2 on 224 is (2, 3)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


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

"""The patch kernel for another patch size or another number of channels.

Patch size: pseudo-inverse resize of FlexiViT (arXiv 2212.08013, section 3.4). Where B resizes a
patch of the old size to the new size, the new kernel is pinv(B^T) w: tokens of enlarged patches are
exactly the old tokens, <x, w> = <B x, w_new>; where patches shrink it is the closest kernel in the
mean over white noise. Plain interpolation of the kernel has neither property. Going down and up
again does not give the original back.

Channels: `adapt_channels`. Computed in float64; results are float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import ModelError, nearest
from vitrail.models.layers.axis_matrix import Floats, Kernel
from vitrail.models.vit.flexible import inverse_matrix


class PatchRule(NamedTuple):
    """The operator B. text: for the sentence that tells the user."""

    kernel: Kernel
    is_antialiased: bool
    text: str


PATCH_RULES: dict[str, PatchRule] = {
    # big_vision proj/flexi/vit.py:resample_patchemb; B is the resize of its input pipeline
    "pi": PatchRule("linear", False, "pseudo-inverse of bilinear resize"),
    # timm.layers.resample_patch_embed
    "pi_timm": PatchRule("cubic", True, "pseudo-inverse of antialiased bicubic resize"),
}


def resize_patch(kernel: Tensor, new: tuple[int, int], rule: str = "pi") -> Tensor:
    """kernel: (D, C, ph, pw). Returns float32 (D, C, *new); at equal size the kernel, bit for bit.

    Raises ModelError VIT-450 for an unknown rule.
    """
    if rule not in PATCH_RULES:
        message = f"unknown rule {rule!r} for patch kernels. {nearest(rule, PATCH_RULES)}"
        raise ModelError("VIT-450", message)
    old = (kernel.shape[2], kernel.shape[3])
    if old == new:
        return kernel.clone()
    # pinv of a Kronecker product is the product of the pinvs: one small matrix per axis.
    rows, columns = (
        _inverse(before, after, PATCH_RULES[rule]) for before, after in zip(old, new, strict=True)
    )
    values = kernel.double().numpy()
    resized = np.einsum("yh,xw,dchw->dcyx", rows, columns, values, optimize=True)
    return torch.from_numpy(np.ascontiguousarray(resized)).float()


def _inverse(old: int, new: int, rule: PatchRule) -> Floats:
    """pinv(B^T), (new, old)."""
    return inverse_matrix(old, new, rule.kernel, antialias=rule.is_antialiased)


def adapt_channels(kernel: Tensor, channels: int) -> Tensor:
    """The kernel (D, C, ph, pw) of a first layer for another number of input channels, float32.

    - to 1: the sum over the channels. A gray image gives the tokens that it gives as RGB with
      three equal channels.
    - to n > 1: the channels repeated in turn, times C / n. A gray kernel becomes n equal parts, so
      that again a gray image gives the same tokens; RGB to 6 are two copies of half the weight.
      Where n is no multiple of C the tokens keep their scale only roughly (timm's
      `adapt_input_conv` has the same rule).

    Both hold where every channel is normalised alike; behind weight standardisation (BiT, hybrid
    stems) the kernel's scale is lost, and tokens keep their direction only roughly.
    """
    old = kernel.shape[1]
    if old == channels:
        return kernel.clone()
    values = kernel.double()
    if channels == 1:
        return values.sum(1, keepdim=True).float()
    return (values[:, torch.arange(channels) % old] * (old / channels)).float()

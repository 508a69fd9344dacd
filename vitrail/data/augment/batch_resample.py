"""Resizing, cropping and blurring a batch as two small matrix products an image, with Pillow's
filter weights.

Pillow resamples separably: every output row is a weighted sum of input rows, likewise columns. The
weights of an image form a matrix (out, in); other boxes are other matrices, a mirrored image has
its columns' matrix reversed. Pillow rounds to 8 bits between the two passes, and so does this:
results differ from it by one level at most (its weights are fixed-point numbers of 22 bits, ours
float32).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitrail.data.augment.crops import Boxes, Size
from vitrail.device import sent

_MAX_WEIGHTS = 2**22  # of the matrices held at once
_SUPPORT = {"nearest": 0.5, "bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}


def resize_boxes(images: Tensor, boxes: Boxes, size: Size, interpolation: str) -> Tensor:
    """The `boxes` (B, 4) of `images` uint8 (B, C, H, W) resized to `size`: uint8 (B, C, h, w)."""
    height, width = images.shape[2:]
    step = max(1, _MAX_WEIGHTS // (size[0] * height + size[1] * width))  # bounds the memory
    parts = []
    for first in range(0, len(images), step):
        where = sent(torch.from_numpy(boxes[first : first + step]), images.device)
        rows = filter_weights(where[:, 0], where[:, 2], size[0], height, interpolation)
        cols = filter_weights(where[:, 1], where[:, 3], size[1], width, interpolation)
        parts.append(apply_separable(images[first : first + step], rows, cols))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def apply_separable(images: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """uint8 (B, C, h, w) = rows (B, h, H) x images uint8 (B, C, H, W) x cols^T (B, w, W), rounded
    after each pass.
    """
    B, C, H, W = images.shape
    h, w = rows.shape[1], cols.shape[1]
    wide = images.to(torch.float32).view(B, C * H, W)
    wide = round_to_byte(torch.bmm(wide, cols.transpose(1, 2)))  # (B, C * H, w)
    tall = wide.view(B, C, H, w).transpose(2, 3).reshape(B, C * w, H)
    tall = round_to_byte(torch.bmm(tall, rows.transpose(1, 2)))  # (B, C * w, h)
    return (
        tall.view(B, C, w, h).transpose(2, 3).to(torch.uint8, memory_format=torch.contiguous_format)
    )


def filter_weights(start: Tensor, length: Tensor, out: int, num: int, interpolation: str) -> Tensor:
    """Pillow's weights (B, out, num) that resize [start, start + length) of `num` pixels to `out`;
    start, length (B,).
    """
    scale = length.to(torch.float64) / out  # (B,)
    stretch = scale.clamp(min=1.0)
    support = stretch * _SUPPORT[interpolation]
    steps = torch.arange(out, device=start.device, dtype=torch.float64) + 0.5
    centre = start[:, None] + steps * scale[:, None]  # (B, out)
    first = (centre - support[:, None] + 0.5).to(torch.int64).clamp(min=0)
    last = (centre + support[:, None] + 0.5).to(torch.int64).clamp(max=num)
    place = torch.arange(num, device=start.device)
    distance = (place + 0.5 - centre[:, :, None]) / stretch[:, None, None]  # (B, out, num)
    weights = _kernel(distance.to(torch.float32), interpolation)
    weights *= (place >= first[:, :, None]) & (place < last[:, :, None])
    return weights / weights.sum(dim=2, keepdim=True)


def blur_weights(radius: Tensor, num: int) -> Tensor:
    """Weights (B, num, num) of Pillow's Gaussian blur of `radius` (B,) px: three box blurs, edges
    repeated.

    The box of real-valued radius is that of Gwosdek et al., "Theoretical foundations of Gaussian
    convolution by extended box filtering" (SSVM 2011), as in Pillow's BoxBlur.c.
    """
    variance = radius.to(torch.float64) ** 2 / 3
    whole = torch.floor((torch.sqrt(12 * variance + 1) - 1) / 2)  # (B,)
    edge = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    box = whole + edge / (6 * (variance - (whole + 1) ** 2))  # radius of the box, (B,)
    reach = math.ceil(float(box.max())) + 1
    place = torch.arange(num, device=radius.device)
    steps = torch.arange(-reach, reach + 1, device=radius.device)
    tap = (box[:, None] + 1 - steps.abs()).clamp(0, 1) / (2 * box[:, None] + 1)  # (B, taps)
    source = (place[:, None] + steps).clamp(0, num - 1)  # (num, taps)
    once = torch.zeros(len(radius), num, num, dtype=torch.float64, device=radius.device)
    once.scatter_add_(2, source.expand(len(radius), -1, -1), tap[:, None, :].expand(-1, num, -1))
    return (once @ once @ once).to(torch.float32)


def round_to_byte(values: Tensor) -> Tensor:
    """Floats rounded half up and clipped to 0..255, in place."""
    return values.add_(0.5).floor_().clamp_(0, 255)


def _kernel(x: Tensor, interpolation: str) -> Tensor:
    """The filter at distances `x` (in units of the stretched pixel); zero outside its support."""
    x = x.abs()
    if interpolation == "nearest":
        return (x <= 0.5).to(x.dtype)
    if interpolation == "bilinear":
        return (1 - x).clamp(min=0)
    if interpolation == "bicubic":  # a = -0.5 (Keys)
        inner = (1.5 * x - 2.5) * x * x + 1
        outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
        return torch.where(x < 1, inner, torch.where(x < 2, outer, 0.0))
    return torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)

"""Pillow's colour operations on a group of pictures at once: uint8 (G, C, h, w) in and out, one
argument a picture.

Each does Pillow's arithmetic (float32 blends cut to integers, integer statistics, tables of 256),
so results equal Pillow's, or differ by one level where noted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vitrail.data.batch_resample import apply_separable, blur_weights


def gray(images: Tensor) -> Tensor:
    """Luma (G, 1, h, w) int32 of RGB: ITU-R 601-2 in 16-bit fixed point."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).unsqueeze(1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with black."""
    return _cut(images.to(torch.float32).mul_(_column(factor)))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with the mean of the luma."""
    luma = gray(images) if images.shape[1] == 3 else images
    total = luma.sum(dim=(1, 2, 3), dtype=torch.int64)
    mean = (total.to(torch.float64) / luma[0].numel() + 0.5).floor().to(torch.float32)
    return _blend(_column(mean), images, factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with the picture in gray; a gray picture stays as it is."""
    if images.shape[1] == 1:
        return images
    return _blend(gray(images).to(torch.float32), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with the picture smoothed by ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13; edge pixels are
    not smoothed.
    """
    if min(images.shape[2:]) < 3:
        return images
    values = images.to(torch.float32)
    sums = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]  # (G, C, h - 2, w)
    sums = sums[..., :-2] + sums[..., 1:-1] + sums[..., 2:]  # (G, C, h - 2, w - 2)
    inner = values[:, :, 1:-1, 1:-1]
    smooth = values.clone()
    smooth[:, :, 1:-1, 1:-1] = sums.add_(inner, alpha=4).add_(6.5).div_(13).floor_()
    return _blend(smooth, images, factor)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from the threshold on are inverted."""
    over = images >= _column(threshold.ceil().to(torch.int16))
    return torch.where(over, 255 - images, images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The highest `bits` bits of each value are kept."""
    mask = 256 - 2 ** (8 - bits.to(torch.int32))
    return images & _column(mask.to(torch.uint8))


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's darkest and lightest values are stretched to 0 and 255."""
    flat = images.flatten(2)
    low, high = (limit.to(torch.float64) for limit in torch.aminmax(flat, dim=2, keepdim=True))
    scale = 255.0 / (high - low).clamp(min=1.0)
    levels = torch.arange(256, device=images.device, dtype=torch.float64)
    table = (levels * scale + -low * scale).clamp_(0, 255)  # (G, C, 256)
    return _look_up(flat, torch.where(high > low, table, levels)).view_as(images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's histogram is made flat, as ImageOps.equalize does it."""
    flat = images.flatten(2).to(torch.int64)  # (G, C, h * w)
    G, C, num = flat.shape
    row = torch.arange(G * C, device=images.device).view(G, C, 1) * 256
    counts = torch.bincount((flat + row).flatten(), minlength=G * C * 256).view(G, C, 256)
    top = flat.amax(dim=2, keepdim=True)
    step = (num - counts.gather(2, top)) // 255  # (G, C, 1)
    before = counts.cumsum(dim=2) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(max=255)
    levels = torch.arange(256, device=images.device)
    return _look_up(flat, torch.where(step > 0, table, levels)).view_as(images)


def grayscale(images: Tensor, _: Tensor) -> Tensor:
    """Three equal channels of the luma; a gray picture stays as it is."""
    if images.shape[1] == 1:
        return images
    return gray(images).to(torch.uint8).expand_as(images)


def blur(images: Tensor, radius: Tensor) -> Tensor:
    """Gaussian blur; up to 3 levels from Pillow, which rounds after each of its six passes."""
    rows, cols = (blur_weights(radius, side) for side in images.shape[2:])
    return apply_separable(images, rows, cols)


COLOR_OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": autocontrast,
    "equalize": equalize,
    "solarize": solarize,
    "color": color,
    "posterize": posterize,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
    "grayscale": grayscale,
    "blur": blur,
}


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _blend(start: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """start + factor * (images - start), `start` float32, as Image.blend."""
    return _cut((images.to(torch.float32) - start).mul_(_column(factor)).add_(start))


def _cut(values: Tensor) -> Tensor:
    return values.clamp_(0, 255).to(torch.uint8)


def _look_up(flat: Tensor, table: Tensor) -> Tensor:
    """table (G, C, 256) at `flat` (G, C, h * w), as uint8."""
    return table.to(torch.uint8).gather(2, flat.to(torch.int64))

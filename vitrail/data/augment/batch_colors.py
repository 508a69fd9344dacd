"""Pillow's colour operations on a group of images at once: uint8 (G, C, h, w) in and out, one
argument an image.

Each does Pillow's arithmetic (float32 blends cut to integers, integer statistics, tables of 256),
so results equal Pillow's, or differ by one level where noted. What PyTorch 2.13 does slowly on a
CPU is gone round: bytes compared with a column (18 times a comparison of whole tensors), `where`
(200 times an `and`), float32 to uint8 in one step (3 times two steps).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vitrail.data.augment.batch_resample import apply_separable, blur_weights
from vitrail.device import sent

_ROUNDING = 1 / 512  # a product that is an integer must not fall below it in float32


def to_bytes(values: Tensor) -> Tensor:
    """uint8 of floats in 0..255, fractions cut; by way of int16, a third of the time on a CPU."""
    return values.to(torch.int16).to(torch.uint8)


def gray(images: Tensor) -> Tensor:
    """Luma (G, 1, h, w) float32 of RGB: ITU-R 601-2 in 16-bit fixed point; all steps are exact."""
    return _luma(images.to(torch.float32))


def _luma(values: Tensor) -> Tensor:
    red, green, blue = values.chunk(3, dim=1)
    luma: Tensor = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471)
    return luma.add_(0x8000).mul_(2.0**-16).floor_()


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with black."""
    return _cut(images.to(torch.float32).mul_(_column(factor)))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with the mean of the luma."""
    values = images.to(torch.float32)
    luma = _luma(values) if images.shape[1] == 3 else images
    total = luma.sum(dim=(1, 2, 3), dtype=torch.float64)
    mean = (total / luma[0].numel() + 0.5).floor().to(torch.float32)
    return _blend(_column(mean), values, factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with the image in gray; a gray image stays as it is."""
    if images.shape[1] == 1:
        return images
    values = images.to(torch.float32)
    return _blend(_luma(values), values, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """A blend with the image smoothed by ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13; edges are not.

    The sums run over the images as one row of numbers: sums that cross an edge are not used.
    """
    height, width = images.shape[2:]
    if min(height, width) < 3:
        return images
    flat = images.flatten().to(torch.int16)
    tall = flat[: -2 * width] + flat[width:-width]
    tall += flat[2 * width :]
    sums = tall[:-2] + tall[1:-1]
    sums += tall[2:]
    sums.add_(flat[width + 1 : -width - 1], alpha=4)
    smooth = torch.zeros(images.shape, dtype=torch.float32, device=images.device)
    inner = smooth.view(-1)[width + 1 : -width - 1]
    inner.copy_(sums).add_(6.5).mul_(1 / 13).floor_()
    result = _blend(smooth, images.to(torch.float32), factor)
    for edge in (0, -1):
        result[:, :, edge] = images[:, :, edge]
        result[:, :, :, edge] = images[:, :, :, edge]
    return result


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from the threshold (0..256) on are inverted."""
    limit = threshold.ceil()
    least = _column(limit.clamp(max=255).to(torch.uint8))
    over = torch.maximum(images, least) == images
    inverted = _column((limit < 256).to(torch.uint8) * 255)  # 256 inverts nothing
    return over.view(torch.uint8).mul_(inverted).bitwise_xor_(images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The highest `bits` bits of each value are kept."""
    mask = 256 - 2 ** (8 - bits.to(torch.int32))
    return images & _column(mask.to(torch.uint8))


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's darkest and lightest values are stretched to 0 and 255.

    Up to one level from Pillow, whose rounded products may fall just below an integer.
    """
    flat = images.flatten(2)
    low = flat.amin(dim=2)[:, :, None, None].to(torch.float32)  # (G, C, 1, 1)
    high = flat.amax(dim=2)[:, :, None, None].to(torch.float32)
    scale = torch.where(high > low, 255.0 / (high - low), 1.0)
    start = torch.where(high > low, low, 0.0)
    values = images.to(torch.float32).sub_(start).mul_(scale).add_(_ROUNDING)
    return to_bytes(values)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's histogram is made flat, as ImageOps.equalize does it.

    Quotients of integers that floats hold exactly do not round up to the next integer.
    """
    flat = images.flatten(2)
    places = flat.to(torch.int64)  # (G, C, h * w)
    G, C, num = flat.shape
    one = torch.ones(1, 1, 1, dtype=torch.int32, device=images.device)
    counts = one.new_zeros(G, C, 256).scatter_add_(2, places, one.expand(G, C, num))
    top = flat.amax(dim=2, keepdim=True).to(torch.int64)
    step = (num - counts.gather(2, top)) // 255  # (G, C, 1)
    before = counts.cumsum(dim=2, dtype=torch.int32).sub_(counts).add_(step // 2)
    real = torch.float32 if num < 2**24 else torch.float64
    table = to_bytes(before.to(real).div_(step.clamp(min=1).to(real)).clamp_(max=255))
    levels = torch.arange(256, device=images.device, dtype=torch.uint8)
    kept = (step == 0).to(torch.uint8)  # such a channel stays as it is
    table.mul_(1 - kept).add_(levels * kept)
    return table.gather(2, places).view_as(images)


def grayscale(images: Tensor, _: Tensor) -> Tensor:
    """Three equal channels of the luma; a gray image stays as it is."""
    if images.shape[1] == 1:
        return images
    return gray(images).to(torch.uint8).expand_as(images)


def blur(images: Tensor, radius: Tensor) -> Tensor:
    """Gaussian blur; up to 3 levels from Pillow, which rounds after each of its six passes. radius:
    on the host.
    """
    # There: adding up in any order, as a GPU does, would make the weights vary.
    rows, cols = (sent(blur_weights(radius, side), images.device) for side in images.shape[2:])
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


OF_THE_HOST = frozenset({"blur"})  # which take their argument on the host


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _blend(start: Tensor, values: Tensor, factor: Tensor) -> Tensor:
    """start + factor * (values - start), all float32, as Image.blend; `values` are overwritten."""
    return _cut(values.sub_(start).mul_(_column(factor)).add_(start))


def _cut(values: Tensor) -> Tensor:
    return values.to(torch.int16).clamp_(0, 255).to(torch.uint8)

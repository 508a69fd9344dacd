"""Augmentation of one image with Pillow: the path of image files, in loader workers.

Crop and resize are one call: `Image.resize(size, box=crop)`, whose pixels define the result. Then
flip, one affine map, colours in order, erasing (`policies`, `crops`). `batch_augment` does the
same for arrays of equal size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.crops import (
    Size,
    erase_boxes,
    flips,
    inception_box,
    mirrored,
    window_frame,
    window_offsets,
)
from vitrail.data.augment.policies import OPS, AugmentDraws, affine_maps, draw_plan, fill_value
from vitrail.data.augment.random_slots import Uniforms

Pixels = NDArray[np.uint8]

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
NOISE_BYTES = 2**20
Fit = Callable[[int, int], Size]  # (height, width) of an image or a part of it -> of the view


def augment_image(
    pixels: Pixels,
    u: Uniforms,
    config: AugmentConfig,
    size: Size | Fit,
    *,
    interpolation: str = "bicubic",
    keep_aspect: bool = False,
) -> Image.Image:
    """A training view of `pixels` uint8 (H, W, C), drawn with uniforms `u` (NUM_SLOTS,); C is 1, 3,
    or 4 with a last byte that means nothing (`decode`, padded).

    `size`: (height, width) of the result, or what it is for a part of the image of so many px, the
    shape of which is then drawn about that of the image. `keep_aspect`: resize by the short side
    (crops that move a window).
    """
    row = u[None, :]
    image = _place(pixels, row, config, size, interpolation, keep_aspect)
    if flips(row, config)[0]:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if config.policy != "none" or config.color_jitter > 0:
        image = apply_plan(image, draw_plan(row, config))
    return _erase(image, row, config) if config.erasing > 0 else image


def write_planes(image: Image.Image, out: Pixels) -> None:
    """The pixels of an "L" or "RGB" image into `out` (C, h, w); faster than a transposed copy."""
    for band, plane in zip(image.getbands(), out, strict=True):
        plane[...] = np.frombuffer(image.tobytes("raw", band), np.uint8).reshape(plane.shape)


def resize_box(
    pixels: Pixels, box: tuple[int, int, int, int], size: Size, interpolation: str
) -> Image.Image:
    """Image.resize(size, box=box) of the whole image; `box` is top, left, height, width.

    Handing Pillow only the part that its filter reads would not give the same bits: Pillow chooses
    by the image's size which of its two passes comes first, and each pass rounds.
    """
    top, left, height, width = box
    image = picture(pixels)
    if box == (0, 0, *size) and size == (image.height, image.width):
        return image
    corners = (left, top, left + width, top + height)
    return image.resize((size[1], size[0]), FILTERS[interpolation], box=corners)


def picture(pixels: Pixels) -> Image.Image:
    """A Pillow image, "L" or "RGB", of pixels (H, W, C); C 4, Pillow's own layout, in half the
    time.
    """
    height, width, channels = pixels.shape
    if channels == 4:
        return Image.frombytes("RGB", (width, height), pixels, "raw", "RGBX")
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))


def apply_plan(image: Image.Image, plan: AugmentDraws) -> Image.Image:
    """`image` after row 0 of the plan: its geometry as one affine map, then colours in order."""
    maps, moved = affine_maps(plan, (image.height, image.width))
    if moved[0]:
        image = image.transform(
            image.size,
            Image.Transform.AFFINE,
            maps[0].ravel().tolist(),
            Image.Resampling.BILINEAR,
            fillcolor=(fill_value(len(image.getbands())),) * len(image.getbands()),
        )
    for op, value in zip(plan.ops[0].tolist(), plan.values[0].tolist(), strict=True):
        image = apply_color(image, OPS[op], value)
    return image


def apply_color(image: Image.Image, op: str, value: float) -> Image.Image:
    """`image` after one operation that moves no pixels; geometric ones leave it as it is."""
    return _COLOR_OPS[op](image, value) if op in _COLOR_OPS else image


def _grayscale(image: Image.Image, _: float) -> Image.Image:
    return image.convert("L").convert(image.mode)


_COLOR_OPS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "solarize": lambda image, threshold: ImageOps.solarize(image, math.ceil(threshold)),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "grayscale": _grayscale,
    "blur": lambda image, radius: image.filter(ImageFilter.GaussianBlur(radius)),
}


@lru_cache(maxsize=1)
def noise() -> Pixels:
    """The fixed noise that erased boxes show windows of: uniform bytes (Zhong et al., arXiv
    1708.04896).
    """
    raw = np.random.Philox(key=0).random_raw(NOISE_BYTES // 8)
    return np.frombuffer(raw.astype("<u8").tobytes(), dtype=np.uint8)


def noise_offset(u: Uniforms) -> NDArray[np.int64]:
    """Where in `noise` each image's erased box begins, (B,)."""
    return np.floor(u[:, random_slots.ERASE_NOISE] * NOISE_BYTES).astype(np.int64)


def _place(
    pixels: Pixels,
    u: Uniforms,
    config: AugmentConfig,
    fit: Size | Fit,
    interpolation: str,
    keep_aspect: bool,
) -> Image.Image:
    """The crop, resized to the size that fits it."""
    have = (pixels.shape[0], pixels.shape[1])
    box = (0, 0, *have)
    if config.crop == "inception":
        box = inception_box(u[0], have, config if isinstance(fit, tuple) else _own(config, have))
    size = fit if isinstance(fit, tuple) else fit(*box[2:])
    if config.crop in ("none", "inception"):
        return resize_box(pixels, box, size, interpolation)
    resized, pad_px = window_frame(have, size, config, keep_aspect=keep_aspect)
    offsets = window_offsets(u, resized, size, pad_px)
    rows = mirrored(offsets[:, 0], size[0], resized[0])[0]
    cols = mirrored(offsets[:, 1], size[1], resized[1])[0]
    whole = np.asarray(resize_box(pixels, (0, 0, *have), resized, interpolation))
    return Image.fromarray(whole[rows[:, None], cols])


def _own(config: AugmentConfig, have: Size) -> AugmentConfig:
    """`config` with the aspect ratios of crops relative to that of an image (height, width)."""
    low, high = (ratio * have[1] / have[0] for ratio in config.crop_ratio)
    return config.model_copy(update={"crop_ratio": (low, high)})


def _erase(image: Image.Image, u: Uniforms, config: AugmentConfig) -> Image.Image:
    """`image` with noise in its drawn box; noise runs over the whole image in order (h, w, C)."""
    height, width, channels = image.height, image.width, len(image.getbands())
    top, left, rows, cols = erase_boxes(u, (height, width), config)[0].tolist()
    if rows == 0:
        return image
    y, x = np.arange(top, top + rows)[:, None, None], np.arange(left, left + cols)[:, None]
    place = (y * width + x) * channels + np.arange(channels)  # (rows, cols, C)
    pixels = np.array(image).reshape(height, width, channels)
    noisy = noise()[(noise_offset(u)[0] + place) % NOISE_BYTES]
    pixels[top : top + rows, left : left + cols] = noisy
    return picture(pixels)

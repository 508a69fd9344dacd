"""Boxes: which part of an image is shown (crops), whether mirrored, and which part is erased. No
pixels here.

- "inception": a box of random area and shape, torchvision's RandomResizedCrop (Szegedy et al. 2014,
  arXiv 1409.4842): area uniform in `crop_scale` of the image, aspect ratio log-uniform in
  `crop_ratio`, 10 tries, then the largest centred box whose ratio is in range. (TensorFlow's
  sample_distorted_bounding_box draws the ratio uniformly, tries 100 times and falls back to the
  whole image.)
- "resize_crop": a random window of the image resized to `crop_enlarge` of the size (big_vision
  transfer.py: 448 -> 384; BiT: 160 -> 128, 512 -> 480).
- "pad_crop": a random window of the image resized to the size and mirrored by `crop_pad` px on
  each side, edge pixels not repeated (the usual CIFAR crop; DeiT-III's simple random crop when the
  aspect ratio is kept).

Boxes are int64 (B, 4): top, left, height, width. Sizes are (height, width).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.random_slots import NUM_TRIES, Uniforms

Boxes = NDArray[np.int64]
Size = tuple[int, int]

ERASE_SCALE: Final = (0.02, 1 / 3)  # share of the area; random erasing as in timm and DeiT
ERASE_SHAPE: Final = (0.3, 3.3)  # height / width, log-uniform


def inception_boxes(u: Uniforms, size: Size, config: AugmentConfig) -> Boxes:
    """The part of each image of `size` that is shown, (B, 4)."""
    height, width = size
    heights, widths, fits = _random_boxes(
        u[:, random_slots.CROP_AREA : random_slots.CROP_AREA + NUM_TRIES],
        u[:, random_slots.CROP_RATIO : random_slots.CROP_RATIO + NUM_TRIES],
        height * width,
        config.crop_scale,
        _tall(config.crop_ratio),
    )
    fits &= (heights <= height) & (widths <= width)
    rows, cols, found = _first(heights, widths, fits)
    top = np.floor(u[:, random_slots.CROP_TOP] * (height - rows + 1)).astype(np.int64)
    left = np.floor(u[:, random_slots.CROP_LEFT] * (width - cols + 1)).astype(np.int64)
    boxes = np.stack([top, left, rows, cols], axis=1)  # (B, 4)
    boxes[~found] = _centre_box(size, config.crop_ratio)
    return boxes


def inception_box(u: Uniforms, size: Size, config: AugmentConfig) -> tuple[int, int, int, int]:
    """`inception_boxes` of one image's uniforms `u` (NUM_SLOTS,), in a tenth of the time."""
    height, width = size
    areas = u[random_slots.CROP_AREA : random_slots.CROP_AREA + NUM_TRIES]
    shapes = u[random_slots.CROP_RATIO : random_slots.CROP_RATIO + NUM_TRIES]
    area, ratio = _areas_and_ratios(
        areas, shapes, height * width, config.crop_scale, _tall(config.crop_ratio)
    )
    for one, shape in zip(area.tolist(), ratio.tolist(), strict=True):
        rows, cols = round(math.sqrt(one * shape)), round(math.sqrt(one / shape))
        if 0 < rows <= height and 0 < cols <= width:
            top = math.floor(u[random_slots.CROP_TOP] * (height - rows + 1))
            return top, math.floor(u[random_slots.CROP_LEFT] * (width - cols + 1)), rows, cols
    return _centre_box(size, config.crop_ratio)


def window_offsets(u: Uniforms, resized: Size, size: Size, pad_px: int) -> Boxes:
    """Top and left (B, 2) of windows of `size` in an image of `resized` mirrored by `pad_px` on
    each side.
    """
    room = np.array([resized[0] - size[0], resized[1] - size[1]]) + 2 * pad_px
    where = u[:, [random_slots.CROP_TOP, random_slots.CROP_LEFT]]  # (B, 2)
    offsets: Boxes = np.floor(where * (room + 1)).astype(np.int64) - pad_px
    return offsets


def window_frame(
    picture: Size, size: Size, config: AugmentConfig, *, keep_aspect: bool
) -> tuple[Size, int]:
    """(resized size, px mirrored on each side) of the windows of "resize_crop" and "pad_crop".

    With `keep_aspect` the short side is fitted and the window moves along the long one.
    """
    enlarge = config.crop_enlarge if config.crop == "resize_crop" else 1.0
    target = (round(size[0] * enlarge), round(size[1] * enlarge))
    if keep_aspect:
        scale = max(target[0] / picture[0], target[1] / picture[1])
        target = (
            max(target[0], round(picture[0] * scale)),
            max(target[1], round(picture[1] * scale)),
        )
    return target, config.crop_pad if config.crop == "pad_crop" else 0


def mirrored(offsets: Boxes, length: int, n: int) -> Boxes:
    """Source positions (B, length) in 0..n-1 of windows starting at `offsets` (B,), reflected at
    both edges.
    """
    places = offsets[:, None] + np.arange(length)  # (B, length)
    if n == 1:
        return np.zeros_like(places)
    places = np.abs(places)
    if places.size and places.max() > 2 * (n - 1):  # a remainder is slow and seldom needed
        places %= 2 * (n - 1)
    inside: Boxes = np.minimum(places, 2 * (n - 1) - places)
    return inside


def flips(u: Uniforms, config: AugmentConfig) -> NDArray[np.bool_]:
    """Whether each image is mirrored left to right, (B,)."""
    return u[:, random_slots.FLIP] < config.flip


def erase_boxes(u: Uniforms, size: Size, config: AugmentConfig) -> Boxes:
    """The part of each image of `size` replaced by noise, (B, 4); height and width 0: none."""
    height, width = size
    heights, widths, fits = _random_boxes(
        u[:, random_slots.ERASE_AREA : random_slots.ERASE_AREA + NUM_TRIES],
        u[:, random_slots.ERASE_RATIO : random_slots.ERASE_RATIO + NUM_TRIES],
        height * width,
        ERASE_SCALE,
        ERASE_SHAPE,
    )
    fits &= (heights < height) & (widths < width)
    rows, cols, found = _first(heights, widths, fits)
    top = np.floor(u[:, random_slots.ERASE_TOP] * (height - rows + 1)).astype(np.int64)
    left = np.floor(u[:, random_slots.ERASE_LEFT] * (width - cols + 1)).astype(np.int64)
    erased = found & (u[:, random_slots.ERASE] < config.erasing)
    boxes: Boxes = np.where(erased[:, None], np.stack([top, left, rows, cols], axis=1), 0)
    return boxes


def _random_boxes(
    areas: Uniforms,
    shapes: Uniforms,
    pixels: int,
    scale: tuple[float, float],
    shape: tuple[float, float],
) -> tuple[Boxes, Boxes, NDArray[np.bool_]]:
    """Heights, widths (B, tries) for shares of the area in `scale` and height / width in `shape`,
    and which exist.
    """
    area, ratio = _areas_and_ratios(areas, shapes, pixels, scale, shape)
    heights = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    widths = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    return heights, widths, (heights > 0) & (widths > 0)


def _areas_and_ratios(
    areas: Uniforms,
    shapes: Uniforms,
    pixels: int,
    scale: tuple[float, float],
    shape: tuple[float, float],
) -> tuple[Uniforms, Uniforms]:
    """Areas in px and ratios height / width of all tries."""
    low, high = math.log(shape[0]), math.log(shape[1])
    return (
        pixels * (scale[0] + areas * (scale[1] - scale[0])),
        np.exp(low + shapes * (high - low)),
    )


def _tall(ratio: tuple[float, float]) -> tuple[float, float]:
    """Limits of height / width from those of width / height."""
    return 1 / ratio[1], 1 / ratio[0]


def _first(
    heights: Boxes, widths: Boxes, fits: NDArray[np.bool_]
) -> tuple[Boxes, Boxes, NDArray[np.bool_]]:
    """Height, width (B,) of the first try that fits, and whether there is one."""
    rows = np.arange(len(fits))
    first = fits.argmax(axis=1)
    return heights[rows, first], widths[rows, first], fits[rows, first]


def _centre_box(size: Size, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Top, left, height, width of the largest centred box with width / height in `ratio`."""
    height, width = size
    rows, cols = height, width
    if width / height < ratio[0]:
        rows = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        cols = max(1, round(height * ratio[1]))
    return (height - rows) // 2, (width - cols) // 2, rows, cols

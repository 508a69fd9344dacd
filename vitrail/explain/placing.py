"""From the values of a grid to the image: enlarging, and undoing the crop of preprocessing."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from vitrail.data.images.preprocess import Preprocess
from vitrail.explain.methods.maps import Array


def resized(values: Array, size: tuple[int, int]) -> Array:
    """values: (h, w). Returns (H, W): bilinear between the centres where an axis grows, the mean of
    what falls together where it shrinks. The precision stays.
    """
    grid = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    shrunk = (min(grid.shape[2], size[0]), min(grid.shape[3], size[1]))
    grid = F.adaptive_avg_pool2d(grid, shrunk)
    grid = F.interpolate(grid, size, mode="bilinear", align_corners=False)
    return grid[0, 0].numpy()


def on_input(values: Array, area: tuple[int, int], size: tuple[int, int]) -> Array:
    """values: (h, w) of the first `area` px of an input of `size`. Returns (height, width), 0 where
    the model sees nothing.
    """
    if area == size or values.shape == size:
        return resized(values, size)
    placed = np.zeros(size, values.dtype)
    placed[: area[0], : area[1]] = resized(values, area)
    return placed


def to_image(values: Array, preprocess: Preprocess, size: tuple[int, ...]) -> Array:
    """values: (height, width) of the model's input. size: (H, W) of the image. Returns (H, W), 0
    where the image is cropped away before the model sees it.
    """
    if preprocess.is_variable:  # never cropped
        return resized(values, (size[0], size[1]))
    height, width = preprocess.resized(size[0], size[1])
    top, left = _offset(preprocess, height, width)
    canvas = np.zeros((height, width), values.dtype)
    canvas[top : top + preprocess.height, left : left + preprocess.width] = values
    return resized(canvas, (size[0], size[1]))


def numbers_on_image(
    numbers: Array, area: tuple[int, int], preprocess: Preprocess, size: tuple[int, ...]
) -> Array:
    """numbers: (h, w), whole, of the first `area` px of the model's input. Returns (H, W) of the
    image without any between them, -1 where the model sees nothing.
    """
    height, width = preprocess.resized(size[0], size[1])
    top, left = _offset(preprocess, height, width)
    rows = _cells((np.arange(size[0]) + 0.5) * height / size[0] - top, area[0], numbers.shape[0])
    columns = _cells((np.arange(size[1]) + 0.5) * width / size[1] - left, area[1], numbers.shape[1])
    framed = np.pad(numbers, ((0, 1), (0, 1)), constant_values=-1)
    return np.asarray(framed[rows[:, None], columns])


def _cells(places: Array, length: int, count: int) -> Array:
    """places: px of the input. The cell of each, of `count` in `length` px, or `count` outside."""
    found = np.floor(places * count / length).astype(np.int64)
    return np.where((found >= 0) & (found < count), found, count)


def _offset(preprocess: Preprocess, height: int, width: int) -> tuple[int, int]:
    """Rows and columns that are cut before the crop, as `Preprocess` rounds them."""
    rooms = (height - preprocess.height, width - preprocess.width)
    if preprocess.crop == "center_floor":
        return rooms[0] // 2, rooms[1] // 2
    return round(rooms[0] / 2), round(rooms[1] / 2)

"""Images of any shape as patches under a budget, with their places: NaFlex (arXiv 2502.14786,
section 2.4.2; NaViT, arXiv 2307.06304).

An image keeps its aspect ratio: it is resized to the largest grid of whole patches within the
budget, so that no side is stretched by more than the rest of one patch. To share a batch with
images of other grids it is packed: a row a patch, (row, column, values of the patch), and rows of
-1 behind the last one. No torch: whatever computes, this is what it is shown.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pair = tuple[int, int]

PLACE = 2  # numbers before the values of a patch: its row and its column
EMPTY = -1.0  # row and column where there is no patch
MAX_SCALE = 100.0  # an image is enlarged by no more
STEP = 1e-5  # of the scale that is searched: transformers' and timm's


@lru_cache(maxsize=1024)
def size_within(size: Pair, patch: Pair, max_patches: int) -> Pair:
    """(height, width) px, whole patches, to which an image of `size` px is resized.

    The scale is the largest whose sides, each rounded up to whole patches, keep within the budget;
    it is bisected to the same precision as transformers' Siglip2ImageProcessor and timm's transform
    do, and so gives their sizes.
    """

    def grid_at(scale: float) -> Pair:
        rows, columns = (
            max(1, math.ceil(side * scale / whole)) for side, whole in zip(size, patch, strict=True)
        )
        return rows, columns

    low, high = STEP / 10, MAX_SCALE
    while high - low >= STEP:
        middle = (low + high) / 2
        rows, columns = grid_at(middle)
        low, high = (middle, high) if rows * columns <= max_patches else (low, middle)
    rows, columns = grid_at(low)
    return rows * patch[0], columns * patch[1]


def packed_shape(channels: int, patch: Pair, max_patches: int) -> Pair:
    """Shape of `packed` rows of an image with so many channels."""
    return max_patches, PLACE + channels * patch[0] * patch[1]


def packed(image: Floats, patch: Pair, max_patches: int) -> Floats:
    """(max_patches, 2 + C*ph*pw) of an image (C, H, W) of whole patches, not more than fit."""
    C, H, W = image.shape
    ph, pw = patch
    h, w = H // ph, W // pw
    found = np.zeros(packed_shape(C, patch, max_patches), np.float32)
    found[:, :PLACE] = EMPTY
    y, x = np.divmod(np.arange(h * w), w)
    found[: h * w, 0], found[: h * w, 1] = y, x
    cells = image.reshape(C, h, ph, w, pw).transpose(1, 3, 0, 2, 4)  # (h, w, C, ph, pw)
    found[: h * w, PLACE:] = cells.reshape(h * w, C * ph * pw)
    return found


def unpacked(rows: Floats, patch: Pair) -> Floats:
    """The image (C, H, W) of `packed` rows."""
    ph, pw = patch
    real = rows[rows[:, 0] != EMPTY]
    h, w = (int(last) + 1 for last in real[:, :PLACE].max(axis=0))
    cells = real[:, PLACE:].reshape(h, w, -1, ph, pw).transpose(2, 0, 3, 1, 4)  # (C, h, ph, w, pw)
    return np.ascontiguousarray(cells.reshape(-1, h * ph, w * pw))

"""A sketch of an image: its low frequencies, which survive another file format or size.

The luma is written as a two-dimensional cosine series (the DCT-II of the image as it is, not of a
thumbnail of it, so that images of any size compare); the first 16 x 16 coefficients are kept, in
gray levels, and the colour of 4 x 4 cells. What a coefficient is:

    c[u, v] = a(u) a(v) mean over y, x of luma[y, x] cos(pi u (y + .5) / H) cos(pi v (x + .5) / W)

with a(0) = 1 and a(u) = sqrt(2), so that the squares of all but c[0, 0] add up to the variance.
Perceptual hashes keep the signs of such numbers; here the numbers themselves stay, because what is
wanted are distances: 60,000 images are compared by matrix products in seconds
(`near_duplicates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.images.rgb import Pixels

SIDE = 16  # coefficients kept of each axis
CELLS = 4  # of colour, along each axis
ENOUGH_PX = 64  # of the short side; larger images are first reduced by whole factors
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
# Blue and red minus luma, as JPEG's Cb and Cr.
CHROMA = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sketches:
    """Of n images: waves (n, 16, 16) float16, in gray levels; colours (n, 2, 4, 4) int8, Cb and
    Cr; sides (n,) int32, the shorter side of each image, px.
    """

    waves: NDArray[np.float16]
    colours: NDArray[np.int8]
    sides: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sides)

    def take(self, places: NDArray[np.int64]) -> Sketches:
        """Those at `places`, in that order."""
        return Sketches(self.waves[places], self.colours[places], self.sides[places])


def sketch(pixels: Pixels) -> Sketches:
    """The sketch of one image uint8 (H, W, C), C 1 or 3."""
    height, width = pixels.shape[:2]
    factor = max(1, min(height, width) // ENOUGH_PX)
    if factor > 1:
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        small = np.asarray(Image.fromarray(flat).reduce(factor))
        pixels = small[:, :, None] if small.ndim == 2 else small
    return _sketches(pixels[None], (height, width), factor)


def sketch_all(images: Pixels) -> Sketches:
    """Sketches of images uint8 (n, H, W, C) of one size."""
    size = (images.shape[1], images.shape[2])
    if not len(images) or min(size) >= 2 * ENOUGH_PX:
        return joined([sketch(one) for one in images])
    step = max(1, 2**22 // (size[0] * size[1]))
    parts = [_sketches(images[i : i + step], size, 1) for i in range(0, len(images), step)]
    return joined(parts)


def joined(parts: Sequence[Sketches]) -> Sketches:
    """All of them as one."""
    if not parts:
        nothing = np.zeros((0, SIDE, SIDE), np.float16), np.zeros((0, 2, CELLS, CELLS), np.int8)
        return Sketches(*nothing, np.zeros(0, np.int32))
    return Sketches(
        np.concatenate([one.waves for one in parts]),
        np.concatenate([one.colours for one in parts]),
        np.concatenate([one.sides for one in parts]),
    )


def _sketches(images: Pixels, size: tuple[int, int], factor: int) -> Sketches:
    """images: (n, h, w, C), reduced by `factor` from images of `size` (H, W)."""
    n, channels = len(images), images.shape[3]
    values = images.astype(np.float32)
    luma = values[..., 0] if channels == 1 else values @ LUMA  # (n, h, w)
    rows, columns = cosines(size[0], factor), cosines(size[1], factor)  # (16, h), (16, w)
    waves = rows @ luma @ columns.T  # (n, 16, 16)
    colours = np.zeros((n, 2, CELLS, CELLS), np.int8)
    if channels == 3:
        tall, wide = _shares(images.shape[1]), _shares(images.shape[2])  # (4, h), (4, w)
        chroma = (values @ CHROMA.T).transpose(0, 3, 1, 2)  # (n, 2, h, w)
        colours = np.clip(np.rint(tall @ chroma @ wide.T), -127, 127).astype(np.int8)
    sides = np.full(n, min(size), np.int32)
    return Sketches(waves.astype(np.float16), colours, sides)


@lru_cache(maxsize=1024)
def cosines(length: int, factor: int) -> Floats:
    """(16, cells): the waves at the centres of cells of `factor` px along `length` px; the last
    cell may be narrower. Frequencies that `length` cannot hold are 0.
    """
    starts = np.arange(0, length, factor)
    widths = np.minimum(factor, length - starts)
    centres = (starts + widths / 2) / length  # 0 to 1
    frequencies = np.arange(SIDE)[:, None]
    table = np.cos(np.pi * frequencies * centres) * (widths / length)
    table[1:] *= np.sqrt(2)
    table[length:] = 0
    return table.astype(np.float32)


@lru_cache(maxsize=1024)
def _shares(length: int) -> Floats:
    """(4, length): each row the mean over a quarter of the axis; pixels may count for two."""
    edges = np.linspace(0, length, CELLS + 1)
    starts = np.arange(length)
    covered = np.minimum(starts + 1, edges[1:, None]) - np.maximum(starts, edges[:-1, None])
    return np.asarray(np.maximum(covered, 0) * (CELLS / length), np.float32)

"""Resampling along one axis as a matrix (new, old) in float64, in every form that a library uses.

Two-dimensional resizing of all of them is separable: rows and columns have a matrix each. Sample k
of the old axis lies at coordinate k. Conventions, proven against golden tensors of each library:

- cubic without antialias is torch's (a = -0.75, samples outside repeat the border);
- antialias is Pillow's, which torch and JAX follow (cubic a = -0.5): the kernel is widened where
  the axis shrinks, samples outside do not count, the weights of a row are scaled to the sum 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kernel = Literal["linear", "cubic"]
Floats = NDArray[np.float64]


def half_pixel_places(old: int, new: int, offset: float = 0.0) -> Floats:
    """Old coordinates of the new samples where both axes span the same image, (new,).

    offset: what DINO adds to the new size before it computes the scale.
    """
    return (np.arange(new, dtype=np.float64) + 0.5) * (old / (new + offset)) - 0.5


def aligned_places(old: int, new: int) -> Floats:
    """Old coordinates of the new samples where the outermost samples coincide, (new,)."""
    return np.arange(new, dtype=np.float64) * ((old - 1) / (new - 1) if new > 1 else 0.0)


def axis_matrix(
    places: Floats, old: int, kernel: Kernel, *, antialias: bool = False, scale: float = 1.0
) -> Floats:
    """The matrix (new, old) that samples `old` values at the coordinates `places` (new,).

    scale: old samples per new sample; only antialias uses it.
    """
    if antialias:
        distance: Floats = (np.arange(old) - places[:, None]) / max(scale, 1.0)  # (new, old)
        weights = _triangle(distance) if kernel == "linear" else _cubic(distance, -0.5)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))
    reach = 1 if kernel == "linear" else 2
    below = np.floor(places).astype(np.int64)  # (new,)
    matrix = np.zeros((len(places), old))
    for step in range(1 - reach, 1 + reach):
        distance = below + step - places  # (new,)
        weights = _triangle(distance) if kernel == "linear" else _cubic(distance, -0.75)
        np.add.at(matrix, (np.arange(len(places)), np.clip(below + step, 0, old - 1)), weights)
    return matrix


def _triangle(x: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: Floats, a: float) -> Floats:
    """Keys' kernel: interpolates, support 2; a is its slope at 1."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))

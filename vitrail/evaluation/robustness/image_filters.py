"""Convolution, resampling and smooth random fields of batches of images, in NumPy.

Every image is computed by itself, in the same operations whatever else is in the batch. Sums that
could depend on the order of work are made in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.robustness.corruption_draws import Draws, Field, Pictures

Matrix = NDArray[np.float64]


def convolve(x: Pictures, kernels: Matrix) -> Pictures:
    """Images (B, h, w, C) with kernels (B or 1, k, k), k odd; borders are mirrored."""
    height, width = x.shape[1:3]
    half = kernels.shape[1] // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), mode="symmetric")
    size = tuple(_smooth_number(side) for side in padded.shape[1:3])
    spectrum = np.fft.rfft2(padded.astype(np.float64), size, axes=(1, 2))
    product = spectrum * np.fft.rfft2(kernels, size, axes=(1, 2))[..., None]
    whole = np.fft.irfft2(product, size, axes=(1, 2))
    start = 2 * half  # the first place where the whole kernel lies inside
    return np.asarray(whole[:, start : start + height, start : start + width], dtype=np.float32)


def _smooth_number(least: int) -> int:
    """The smallest 2^a 3^b 5^c from `least` on, which transforms are fast for."""
    number = least
    while True:
        rest = number
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return number
        number += 1


def gaussian(sigma_px: float) -> Matrix:
    """A kernel (1, k, k) of sum 1, cut at 4 sigma; a single 1 for sigma 0."""
    half = math.ceil(4 * sigma_px)
    places = np.arange(-half, half + 1)
    line = np.exp(-(places**2) / (2 * max(sigma_px, 1e-6) ** 2))
    kernel = np.outer(line, line)
    return np.asarray(kernel[None] / kernel.sum())


def disc(radius_px: float, smooth_px: float) -> Matrix:
    """A kernel (1, k, k): a disc, smoothed by a Gaussian of `smooth_px` and then sampled."""
    half = math.ceil(radius_px + 4 * smooth_px)
    parts = 9  # points a pixel and axis, one of them in the centre
    points = (np.arange((2 * half + 1) * parts) + 0.5) / parts - half - 0.5
    inside = points[:, None] ** 2 + points[None, :] ** 2 <= radius_px**2
    places = np.arange(-half, half + 1)
    line = np.exp(-((places[:, None] - points[None, :]) ** 2) / (2 * smooth_px**2))
    kernel: Matrix = line @ inside @ line.T
    return np.asarray(kernel[None] / kernel.sum())


def trails(sigma_px: float, degrees: Field) -> Matrix:
    """Kernels (B, k, k): half a Gaussian from the centre outwards, at an angle (B,) above the
    horizontal.
    """
    reach = math.ceil(3 * sigma_px) + 1
    steps = np.arange(0, 3 * sigma_px + 0.25, 0.25)
    weights = np.exp(-(steps**2) / (2 * sigma_px**2))
    kernels = np.zeros((len(degrees), 2 * reach + 1, 2 * reach + 1))
    for kernel, angle in zip(kernels, np.deg2rad(degrees.astype(np.float64)), strict=True):
        rows, columns = reach - steps * math.sin(angle), reach + steps * math.cos(angle)
        top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
        down, right = rows - top, columns - left
        np.add.at(kernel, (top, left), weights * (1 - down) * (1 - right))
        np.add.at(kernel, (top, left + 1), weights * (1 - down) * right)
        np.add.at(kernel, (top + 1, left), weights * down * (1 - right))
        np.add.at(kernel, (top + 1, left + 1), weights * down * right)
    return np.asarray(kernels / kernels.sum(axis=(1, 2), keepdims=True))


def linear(positions: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """The matrix (m, size) that interpolates a line of `size` values at `positions` (m,)."""
    places = np.clip(positions, 0, size - 1)
    low = np.minimum(np.floor(places).astype(int), max(size - 2, 0))
    share = places - low
    matrix = np.zeros((len(places), size), np.float32)
    rows = np.arange(len(places))
    matrix[rows, low] += 1 - share
    matrix[rows, np.minimum(low + 1, size - 1)] += share
    return matrix


def resampled(x: Pictures, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Pictures:
    """Images (B, h, w, C) by matrices (h', h) and (w', w): (B, h', w', C)."""
    tall = np.matmul(rows, x.reshape(*x.shape[:2], -1)).reshape(len(x), len(rows), *x.shape[2:])
    return np.asarray(np.matmul(columns, tall))  # (B, h', w', C)


def zoomed(x: Pictures, factor: float) -> Pictures:
    """The middle of images (B, h, w, C), enlarged by `factor` >= 1 to their size; linear."""
    for axis in (1, 2):
        size = x.shape[axis]
        places = (np.arange(size) - (size - 1) / 2) / factor + (size - 1) / 2
        low = np.minimum(np.floor(places).astype(int), max(size - 2, 0))
        share = (places - low).astype(np.float32).reshape(-1, *[1] * (3 - axis))
        first = np.take(x, low, axis)
        x = first + share * (np.take(x, np.minimum(low + 1, size - 1), axis) - first)
    return x


def sampled(x: Pictures, rows: Field, columns: Field) -> Pictures:
    """Images at places (B, h, w) in px, bilinear; outside they go on mirrored."""
    height, width = x.shape[1:3]
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    r0, c0 = top.astype(int), left.astype(int)
    r0, r1, c0, c1 = (
        mirrored(r0, height),
        mirrored(r0 + 1, height),
        mirrored(c0, width),
        mirrored(c0 + 1, width),
    )
    each = np.arange(len(x))[:, None, None]
    upper = x[each, r0, c0] * (1 - right) + x[each, r0, c1] * right
    lower = x[each, r1, c0] * (1 - right) + x[each, r1, c1] * right
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)


def mirrored(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Whole places on a line of `size` that goes on mirrored, its ends repeated: 1 0 | 0 1 2."""
    folded = places % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def field(draws: Draws, height: int, width: int, cell_px: float, *, normal: bool = False) -> Field:
    """Random values on a grid of `cell_px`, linear between: (B, h, w), uniform in [0, 1) or
    normal.
    """
    cell = max(cell_px, 1.0)
    grid = (math.ceil((height - 1) / cell) + 1, math.ceil((width - 1) / cell) + 1)
    values = draws.normal(*grid, 1) if normal else draws.uniform(*grid, 1)
    rows, columns = (
        linear(np.arange(side) / cell, size)
        for side, size in zip((height, width), grid, strict=True)
    )
    return resampled(values, rows, columns)[..., 0]


def fractal(draws: Draws, height: int, width: int, decay: float) -> Field:
    """Clouds (B, h, w) from 0 to 1 in each image: fields of ever finer grids, each `decay` times
    weaker than the one before.
    """
    cell, weight = float(max(height, width)), 1.0
    total = np.zeros((1, height, width), np.float32)
    while cell >= 1:
        total = total + np.float32(weight) * field(draws, height, width, cell)
        cell, weight = cell / 2, weight / decay
    low, high = total.min(axis=(1, 2), keepdims=True), total.max(axis=(1, 2), keepdims=True)
    return np.asarray((total - low) / np.maximum(high - low, 1e-6), dtype=np.float32)

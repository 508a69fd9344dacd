"""The 15 corruptions of ImageNet-C, written anew: noise, blur, weather, digital.

Source: Hendrycks and Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations (arXiv 1903.12261, section 4.1 and figure 1). The severities are the constants of
github.com/hendrycks/robustness: those of CIFAR-10-C hold up to 32 px, those of ImageNet-C from 224
px, equal ratios between (`corruption_draws.between`). The images are not those of the published
sets; docs/evaluation.md lists what differs and why, and no published figure may be compared.

Each function takes images (B, h, w, C) float32 in [0, 1], C 1 or 3, and may leave that range.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.evaluation.robustness.corruption_draws import (
    Draws,
    Pictures,
    between,
    length,
    short_side,
)
from vitrail.evaluation.robustness.image_filters import (
    convolve,
    disc,
    field,
    fractal,
    gaussian,
    mirrored,
    resampled,
    sampled,
    trails,
    zoomed,
)

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601
FROST = (0.82, 0.92, 1.0)  # colour of ice
FLAKE_PX, ICE_PX, WOBBLE_PX = 3.0, 40.0, 12.0  # of images of 224 px
NUM_ZOOMS = 11


def gaussian_noise(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Normal noise on every value."""
    sigma = between(
        (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38), severity, short_side(x)
    )
    return x + np.float32(sigma) * draws.normal(*x.shape[1:])


def shot_noise(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Few photons: Poisson counts, by the inverse of their distribution."""
    photons = between((500, 250, 100, 75, 50), (60, 25, 12, 5, 3), severity, short_side(x))
    table, width = _poisson(photons)
    values = np.clip(np.rint(x * 255), 0, 255)  # (B, h, w, C) of 256 kinds
    found = np.searchsorted(table, values + draws.uniform(*x.shape[1:]).astype(np.float64), "right")
    return np.asarray((found - values * width) / photons, dtype=np.float32)


@lru_cache(maxsize=8)
def _poisson(photons: float) -> tuple[NDArray[np.float64], int]:
    """v + P(count <= k) for v = 0..255 of mean v / 255 * photons and k < width, one after
    another: (256 * width,), rising.
    """
    from scipy.special import pdtr

    width = math.ceil(photons + 8 * math.sqrt(photons) + 10)
    values = np.arange(256)[:, None]
    below = pdtr(np.arange(width), values / 255 * photons)
    return (values + np.minimum(below, 1 - 1e-12)).ravel(), width


def impulse_noise(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Salt and pepper: a share of the values is 0 or 1."""
    share = between(
        (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27), severity, short_side(x)
    )
    u = draws.uniform(*x.shape[1:])
    return np.where(u < share / 2, np.float32(0), np.where(u >= 1 - share / 2, np.float32(1), x))


def defocus_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """A disc of confusion."""
    radius = length((0.3, 0.4, 0.5, 1.0, 1.5), (3, 4, 6, 8, 10), severity, short_side(x))
    return convolve(x, disc(radius, 0.4))


def glass_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Blurred, pixels taken from random places nearby, blurred again."""
    side = short_side(x)
    sigma = length((0.3,) * 5, (0.7, 0.9, 1.0, 1.1, 1.5), severity, side)
    reach = length((0.3, 0.5, 0.75, 1, 1.4), (1, 2, 2.5, 3, 4), severity, side)
    x = convolve(x, gaussian(sigma))
    height, width = x.shape[1:3]
    each = np.arange(len(x))[:, None, None]
    for _ in range(2):
        offsets = np.rint((draws.uniform(2, height, width) - 0.5) * (2 * reach + 1)).astype(int)
        rows = mirrored(np.arange(height)[None, :, None] + offsets[:, 0], height)
        columns = mirrored(np.arange(width)[None, None, :] + offsets[:, 1], width)
        x = x[each, rows, columns]
    return convolve(x, gaussian(sigma))


def motion_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """A trail at an angle of -45 to 45 degrees."""
    sigma = length((1, 1.5, 2, 2.25, 2.5), (3, 5, 8, 12, 15), severity, short_side(x))
    return convolve(x, trails(sigma, 90 * draws.uniform(1)[:, 0] - 45))


def zoom_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """The mean of the image and of what a lens sees that zooms in."""
    most = between(
        (1.05, 1.10, 1.15, 1.20, 1.25), (1.10, 1.15, 1.20, 1.24, 1.30), severity, short_side(x)
    )
    total = x + sum(zoomed(x, factor) for factor in np.linspace(1, most, NUM_ZOOMS))
    return _floats(total / np.float32(NUM_ZOOMS + 1))


def snow(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Flakes driven by the wind, twice, over a whiter image."""
    side = short_side(x)
    height, width, channels = x.shape[1:]
    size = length((1.25,) * 5, (FLAKE_PX,) * 5, severity, side)
    least = between((2.2, 1.8, 1.4, 1.15, 1.0), (1.6, 1.45, 1.3, 1.15, 1.0), severity, side)
    white = between((0.5, 0.5, 0.55, 0.6, 0.65), (0.45, 0.5, 0.55, 0.6, 0.65), severity, side)
    kept = between((0.95, 0.92, 0.9, 0.85, 0.8), (0.85, 0.8, 0.75, 0.7, 0.6), severity, side)
    wind = length((1.0, 1.2, 1.4, 1.6, 1.8), (4, 5, 6, 8, 10), severity, side)
    height_of = field(draws, height, width, size, normal=True)
    flakes = np.where(height_of > least, np.clip(white + 0.3 * (height_of - least), 0, 1), 0)
    kernels = trails(wind, 90 * draws.uniform(1)[:, 0] - 135)
    layer = convolve(flakes[..., None].astype(np.float32), kernels)
    whiter = np.maximum(x, 1.5 * _gray(x) + 0.5)
    over = np.float32(kept) * x + np.float32(1 - kept) * whiter
    return _floats(over + layer + layer[:, ::-1, ::-1])


def frost(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Ice on the glass: veins and grain that cover the image more and more."""
    side = short_side(x)
    height, width, channels = x.shape[1:]
    cover = between((0.2, 0.28, 0.36, 0.42, 0.5), (0.35, 0.5, 0.6, 0.68, 0.76), severity, side)
    cell = ICE_PX * side / 224
    veins = np.zeros((1, height, width), np.float32)
    for octave, weight in enumerate((0.5, 0.3, 0.2)):
        ridge = 1 - np.abs(2 * field(draws, height, width, cell / 2**octave) - 1)
        veins = _floats(veins + weight * ridge**3)
    grain = 0.6 + 0.4 * draws.uniform(height, width)
    mask = np.clip(np.float32(cover) * (0.35 + 1.3 * veins) * grain, 0, 1)[..., None]
    colour = np.array(FROST if channels == 3 else [sum(FROST) / 3], np.float32)
    return _floats(x + mask * (colour * grain[..., None] - x))


def fog(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Clouds (fractal noise) before an image that keeps its greatest value."""
    side = short_side(x)
    amount = between((0.2, 0.5, 0.75, 1, 1.5), (1.5, 2, 2.5, 3, 4), severity, side)
    decay = between((2.5,) * 5, (1.75,) * 5, severity, side)
    most = np.maximum(x.max(axis=(1, 2, 3), keepdims=True), 1e-6)
    clouds = fractal(draws, x.shape[1], x.shape[2], decay)[..., None]
    return _floats((x + np.float32(amount) * clouds) * most / (most + np.float32(amount)))


def brightness(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """A higher value of HSV: hue and saturation stay, black becomes gray."""
    more = between((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), severity, short_side(x))
    value = x.max(axis=3, keepdims=True)
    raised = np.minimum(value + np.float32(more), 1)
    return _floats(np.where(value > 0, x * (raised / np.maximum(value, 1e-6)), raised))


def contrast(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Nearer to the mean of each channel."""
    kept = between((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), severity, short_side(x))
    mean = x.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    return _floats((x - mean) * np.float32(kept) + mean)


def elastic_transform(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Bent by a random linear map and by a smooth field of offsets, both growing."""
    side = short_side(x)
    height, width = x.shape[1:3]
    scale = side / 224
    shear = (3, 5, 7, 9, 12)[severity - 1] * scale / (side / 2)  # px at the border, as a share
    wobble = (2, 3, 4.5, 6, 8)[severity - 1] * scale  # px, largest
    offsets = [2 * field(draws, height, width, WOBBLE_PX * scale) - 1 for _ in range(2)]
    linear_map = 2 * draws.uniform(2, 2) - 1  # (B, 2, 2)
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[None, :, None]
    columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, None, :]
    moved = [
        np.float32(shear)
        * (linear_map[:, i, 0, None, None] * rows + linear_map[:, i, 1, None, None] * columns)
        + np.float32(wobble) * offsets[i]
        for i in range(2)
    ]
    return sampled(x, rows + moved[0] + (height - 1) / 2, columns + moved[1] + (width - 1) / 2)


def pixelate(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Made small and large again, both by the mean over boxes."""
    share = between(
        (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25), severity, short_side(x)
    )
    rows, columns = (_boxes(size, max(1, int(size * share))) for size in x.shape[1:3])
    return resampled(x, rows, columns)


def _boxes(size: int, fewer: int) -> NDArray[np.float32]:
    """The matrix (size, size) of a resize to `fewer` and back: shares of overlapping boxes."""
    edges, coarse = np.arange(size + 1) / size, np.arange(fewer + 1) / fewer
    overlap = np.minimum(edges[1:, None], coarse[None, 1:]) - np.maximum(
        edges[:-1, None], coarse[None, :-1]
    )
    overlap = np.maximum(overlap, 0)  # (size, fewer)
    return np.asarray((overlap * size) @ (overlap * fewer).T, dtype=np.float32)


def jpeg_compression(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Written and read as JPEG of low quality by Pillow."""
    quality = round(between((80, 65, 58, 50, 40), (25, 18, 15, 10, 7), severity, short_side(x)))
    pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    found = np.empty_like(x)
    for picture, out in zip(pixels, found, strict=True):
        stream = io.BytesIO()
        is_gray = picture.shape[2] == 1
        Image.fromarray(picture[..., 0] if is_gray else picture).save(
            stream, "JPEG", quality=quality
        )
        with Image.open(stream, formats=("JPEG",)) as image:
            out[...] = np.asarray(image, np.float32).reshape(picture.shape) / 255
    return found


def _floats(values: NDArray[Any]) -> Pictures:
    return np.asarray(values, dtype=np.float32)


def _gray(x: Pictures) -> Pictures:
    """Luma (B, h, w, 1)."""
    if x.shape[3] == 1:
        return x
    return np.asarray((x * np.array(LUMA, np.float32)).sum(axis=3, keepdims=True))

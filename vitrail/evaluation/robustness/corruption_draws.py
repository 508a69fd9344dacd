"""What chance gives to a corruption, and what a severity means for images of another size.

An image's numbers are a function of (seed, corruption, index of the image), whatever the batch:
raw words of numpy's Philox4x64 (its stream is guaranteed) in a fixed order. They do not depend on
the severity: a severer corruption does more of the same to the same places.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from vitrail.keyed_random import mix

SMALL, LARGE = 32, 224  # px: the sizes for which severities are given
_BITS = 24  # of a float32

Pictures = NDArray[np.float32]  # (B, h, w, C) in [0, 1]
Field = NDArray[np.float32]  # (B, ...)
Five = tuple[float, float, float, float, float]  # severity 1 to 5


class Draws:
    """Random numbers of the images `indices` (B,) for one corruption."""

    def __init__(self, seed: int, corruption: str, indices: NDArray[np.int64]) -> None:
        word = int.from_bytes(hashlib.sha256(corruption.encode()).digest()[:8], "little")
        key = mix(seed, word)
        self._streams = [np.random.Philox(key=key, counter=int(i) << 64) for i in indices]

    def uniform(self, *shape: int) -> Field:
        """(B, *shape) in [0, 1), multiples of 2**-24."""
        num = math.prod(shape)
        rows = [np.asarray(one.random_raw(num), dtype=np.uint64) for one in self._streams]
        numbers = np.stack(rows) >> np.uint64(64 - _BITS)  # (B, num)
        return (numbers.astype(np.float32) * np.float32(2.0**-_BITS)).reshape(-1, *shape)

    def normal(self, *shape: int) -> Field:
        """(B, *shape) of mean 0 and variance 1: Box and Muller's method."""
        num = math.prod(shape)
        radius, angle = self.uniform(num), self.uniform(num)
        values = np.sqrt(-2 * np.log(1 - radius)) * np.cos(np.float32(2 * math.pi) * angle)
        return np.asarray(values, dtype=np.float32).reshape(-1, *shape)


def between(small: Five, large: Five, severity: int, side_px: int) -> float:
    """The value of a severity for images whose short side is `side_px`: `small` up to 32 px,
    `large` from 224 px, in equal ratios between.
    """
    a, b = small[severity - 1], large[severity - 1]
    share = math.log(side_px / SMALL) / math.log(LARGE / SMALL)
    return float(a * (b / a) ** min(max(share, 0.0), 1.0))


def length(small: Five, large: Five, severity: int, side_px: int) -> float:
    """As `between`, of a length in px: below 32 px and above 224 px it grows with the image."""
    outside = min(side_px / SMALL, 1.0) * max(side_px / LARGE, 1.0)
    return between(small, large, severity, side_px) * outside


def short_side(x: Pictures) -> int:
    """Pixels of the short side of images (B, h, w, C)."""
    height, width = x.shape[1:3]
    return min(int(height), int(width))

"""The bootstrap: how far a figure without a closed form would scatter over other images.

Replicate r draws n of the n images with replacement (Efron, Annals of Statistics 7, 1979). What
is drawn is a function of (seed, r, n) alone: raw words of numpy's Philox4x64, whose stream numpy
guarantees, scaled to 0..n-1. So an interval is the same on every machine and in every order of
work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitrail.keyed_random import mix

REPLICATES = 1000
CONFIDENCE = 0.95
_DRAWS, _UNIFORMS = 0, 1

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def drawn(n: int, replicate: int, *, seed: int = 0) -> Counts:
    """How many times each of `n` images is drawn in a replicate: (n,), of sum n."""
    high = _words(n, replicate, seed, _DRAWS) >> np.uint64(32)
    places = (high * np.uint64(n)) >> np.uint64(32)  # below n, each as likely to 2**-32 * n
    return np.bincount(places.astype(np.int64), minlength=n)


def uniform(n: int, replicate: int, *, seed: int = 0) -> Values:
    """`n` numbers in [0, 1) of a replicate, multiples of 2**-53: (n,)."""
    words = _words(n, replicate, seed, _UNIFORMS) >> np.uint64(11)
    return words.astype(np.float64) * 2.0**-53


def _words(n: int, replicate: int, seed: int, purpose: int) -> NDArray[np.uint64]:
    stream = np.random.Philox(key=_key(seed, purpose), counter=replicate << 64)
    return np.asarray(stream.random_raw(n), dtype=np.uint64)


@lru_cache(maxsize=16)
def _key(seed: int, purpose: int) -> int:
    return mix(seed, purpose)


def replicated(
    figures: Callable[[Counts], dict[str, float]],
    n: int,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Values]:
    """The values (replicates,) of each of `figures`, which takes the counts of a replicate."""
    rows = [figures(drawn(n, r, seed=seed)) for r in range(replicates)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def percentile_interval(values: Values, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle `confidence` of the replicates' values, linearly interpolated."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def basic_interval(
    estimate: float, values: Values, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The percentile interval mirrored at `estimate` (Davison and Hinkley 1997, equation 5.6).

    A figure that resampling shifts by some bias is taken to be shifted by it once already.
    """
    low, high = percentile_interval(values, confidence=confidence)
    return 2 * estimate - high, 2 * estimate - low

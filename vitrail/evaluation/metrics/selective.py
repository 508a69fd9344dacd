"""Selective prediction: how often a model is wrong on the share of images it is surest of.

Keep the k images of highest confidence (the probability of the best class) of n: coverage k / n,
risk = share of wrong ones among them. The curve and its area are El-Yaniv and Wiener's (JMLR 11,
2010) and Geifman, Uziel and El-Yaniv's (arXiv 1805.08206): the area is the mean risk over k = 1..n,
the excess is what a perfect order of the same predictions would save of it. Images of equal
confidence come in random order, and every figure is the mean over these orders: it does not depend
on how the images were listed, and a model that is equally sure of everything has the area of its
error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COVERAGES = tuple(round(0.05 * i, 2) for i in range(1, 21))  # where the curve is written down
RISKS = (0.01, 0.05, 0.1)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """Images of equal confidence together, the surest first: confidence (g,), how many (g,), how
    many of them wrong (g,).
    """

    confidence: Values
    size: Values
    wrong: Values

    @property
    def n(self) -> int:
        """Number of images."""
        return round(float(self.size.sum()))


def groups(confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_]) -> Groups:
    """The groups of `confidence` (n,) and `correct` (n,)."""
    place, values = descending(confidence)
    size = np.bincount(place, minlength=len(values)).astype(np.float64)
    wrong = np.bincount(place, weights=~correct, minlength=len(values)).astype(np.float64)
    return Groups(values, size, wrong)


def descending(confidence: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int64], Values]:
    """Of each image the number of its group (n,), and the confidence of each group (g,)."""
    values, place = np.unique(-confidence.astype(np.float64), return_inverse=True)
    return place.astype(np.int64), -values


def risk_at(found: Groups, num_kept: float) -> float:
    """Mean share of wrong ones among `num_kept` >= 1 images; inside a group the wrong ones are
    spread evenly.
    """
    kept = np.cumsum(found.size)
    wrong = np.interp(num_kept, np.append(0.0, kept), np.append(0.0, np.cumsum(found.wrong)))
    return float(wrong / num_kept)


def area(found: Groups) -> float:
    """Mean over k = 1..n of the risk of the k surest; 0 for no images.

    Within a group that starts after N0 images with E0 wrong ones, and of which a share r is
    wrong, the risk at k is (E0 + r (k - N0)) / k = r + (E0 - r N0) / k: harmonic numbers sum it.
    """
    n = found.n
    if n == 0:
        return 0.0
    occurs = found.size > 0
    size, wrong = found.size[occurs], found.wrong[occurs]
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, n + 1)))
    stop, wrong_before = np.cumsum(size), np.cumsum(wrong) - wrong
    start = stop - size
    between = harmonic[np.rint(stop).astype(int)] - harmonic[np.rint(start).astype(int)]
    return float(np.sum(wrong + (wrong_before - wrong / size * start) * between) / n)


def best_area(n: int, num_wrong: int) -> float:
    """The area if every wrong prediction were less sure than every right one."""
    right = n - num_wrong
    last = np.arange(right + 1, n + 1)
    return float(np.sum((last - right) / last) / n) if n else 0.0


def largest_coverage(found: Groups, risk: float) -> float:
    """The largest share of images, in whole groups, whose risk is at most `risk`; 0 if none."""
    kept = np.cumsum(found.size)
    fits = np.cumsum(found.wrong) <= risk * kept * (1 + 1e-12)
    return float(kept[fits].max() / kept[-1]) if fits.any() else 0.0


def selective(confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_]) -> dict[str, Any]:
    """The object "selective" of metrics.json (docs/evaluation.md); {} for no images."""
    if not len(correct):
        return {}
    found = groups(confidence, correct)
    n, whole = found.n, area(found)
    ends = np.cumsum(found.size)
    curve = []
    for coverage in COVERAGES:
        num_kept = max(1.0, coverage * n)
        last = min(int(np.searchsorted(ends, num_kept - 1e-9)), len(ends) - 1)
        threshold = float(found.confidence[last])
        curve.append(
            {"coverage": coverage, "risk": risk_at(found, num_kept), "threshold": threshold}
        )
    return {
        "area": whole,
        "excess": max(0.0, whole - best_area(n, round(float(found.wrong.sum())))),
        "coverage_at_risk": {f"{risk:g}": largest_coverage(found, risk) for risk in RISKS},
        "curve": curve,
    }

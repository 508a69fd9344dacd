"""Two models on the same images: is one better, or is it chance?

Accuracy: McNemar's exact test (Psychometrika 12, 1947) asks whether the images that only one of
them gets right fall to either side more unevenly than coins would; the interval of the difference
is Newcombe's method 10 for paired shares (Statistics in Medicine 17, 2635-2650, 1998), built from
Wilson's. NLL: the mean difference with a paired bootstrap interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from vitrail.evaluation.metrics.bootstrap import percentile_interval, replicated
from vitrail.evaluation.metrics.intervals import Z95, wilson
from vitrail.evaluation.record import Evaluation
from vitrail.spelling import count

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Model A against model B on n images; differences are A - B."""

    n: int
    both: int
    only_a: int
    only_b: int
    p_value: float
    top1: tuple[float, float]  # of A, of B
    top1_interval: tuple[float, float]  # of the difference
    nll: tuple[float, float]  # of A, of B
    nll_interval: tuple[float, float]  # of the difference

    @property
    def top1_difference(self) -> float:
        """Accuracy of A minus that of B."""
        return (self.only_a - self.only_b) / self.n

    @property
    def nll_difference(self) -> float:
        """NLL of A minus that of B: negative where A is better."""
        return self.nll[0] - self.nll[1]

    def to_json(self) -> dict[str, Any]:
        """The object "against" of metrics.json, but for the name of B."""
        return {
            "n": self.n,
            "top1": self.top1[1],
            "nll": self.nll[1],
            "only_this": self.only_a,
            "only_other": self.only_b,
            "p_value": self.p_value,
            "top1_difference": self.top1_difference,
            "top1_difference_interval": list(self.top1_interval),
            "nll_difference": self.nll_difference,
            "nll_difference_interval": list(self.nll_interval),
        }


def compare(a: Evaluation, b: Evaluation, *, seed: int = 0) -> Comparison:
    """A against B, both measured on the same images in the same order.

    Raises ValueError where they were not.
    """
    if a.n != b.n or a.ids != b.ids or a.n == 0:
        raise ValueError(f"not the same images: {a.n} and {b.n}")
    both, neither = int((a.correct & b.correct).sum()), int((~a.correct & ~b.correct).sum())
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((~a.correct & b.correct).sum())
    difference = a.losses - b.losses  # (n,)
    values = replicated(lambda counts: {"nll": float(counts @ difference) / a.n}, a.n, seed=seed)
    return Comparison(
        n=a.n,
        both=both,
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar(only_a, only_b),
        top1=(a.top1, b.top1),
        top1_interval=newcombe(both, only_a, only_b, neither),
        nll=(a.nll, b.nll),
        nll_interval=percentile_interval(values["nll"]),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of the exact test: min(1, 2 P(X <= min)), X of `only_a` + `only_b` coins.

    Sums of whole numbers, rounded once.
    """
    n, least = only_a + only_b, min(only_a, only_b)
    term, tail = 1, 0
    for k in range(least + 1):
        tail += term  # term is n choose k
        term = term * (n - k) // (k + 1)
    return min(1.0, float(2 * tail / 2**n))


def newcombe(
    both: int, only_a: int, only_b: int, neither: int, *, z: float = Z95
) -> tuple[float, float]:
    """Interval of the difference of two shares measured on the same things, 95 % by default."""
    n = both + only_a + only_b + neither
    right_a, right_b = both + only_a, both + only_b
    a, b = right_a / n, right_b / n
    (low_a, high_a), (low_b, high_b) = wilson(right_a, n, z=z), wilson(right_b, n, z=z)
    phi = _correlation(both, only_a, only_b, neither)
    down = (a - low_a) ** 2 - 2 * phi * (a - low_a) * (high_b - b) + (high_b - b) ** 2
    up = (high_a - a) ** 2 - 2 * phi * (high_a - a) * (b - low_b) + (b - low_b) ** 2
    return a - b - math.sqrt(max(down, 0.0)), a - b + math.sqrt(max(up, 0.0))


def _correlation(both: int, only_a: int, only_b: int, neither: int) -> float:
    """Newcombe's phi: corrected for continuity towards 0, and 0 where a margin is empty."""
    n = both + only_a + only_b + neither
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    product = both * neither - only_a * only_b
    if margins == 0:
        return 0.0
    corrected = max(product - n / 2, 0.0) if product > 0 else product
    return corrected / math.sqrt(margins)


def sentences(found: Comparison, a: str, b: str) -> list[str]:
    """What `found` says of models named `a` and `b`, for people."""
    low, high = found.top1_interval
    counts = (
        f"difference {found.top1_difference:+.4f} (95 % {low:+.4f} to {high:+.4f}), "
        f"p = {p_text(found.p_value)}"
    )
    if found.p_value >= LEVEL:
        first = f"no evidence of a difference in top-1: {counts}"
    else:
        better, worse = (a, b) if found.only_a > found.only_b else (b, a)
        first = f"{better} is more accurate than {worse}: {counts}"
    only = (
        f"{count(found.only_a, 'image')} only {a} gets right, {found.only_b} only {b}, "
        f"{found.both} both, of {found.n}"
    )
    low, high = found.nll_interval
    figures = f"difference {found.nll_difference:+.4f} (95 % {low:+.4f} to {high:+.4f})"
    if low <= 0 <= high:
        last = f"no evidence of a difference in nll: {figures}"
    else:
        better = a if high < 0 else b
        last = f"{better} has the lower nll: {figures}"
    return [first, only, last]


def p_text(value: float) -> str:
    """0.41, 0.0032, below 0.0001."""
    if value < 1e-4:
        return "below 0.0001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"

"""How far a share measured on n images, or a mean of some values, can be from the true one."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson(correct: int, n: int, *, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of the share `correct` / `n`, 95 % by default; (0, 1) where n is 0.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA
    22 (1927). Unlike p +- z * sqrt(p (1 - p) / n) it stays inside [0, 1] and keeps its coverage for
    shares near 0 and 1.
    """
    if n == 0:
        return (0.0, 1.0)
    share = correct / n
    denominator = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / denominator
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return (low, high)


def mean_interval(shares: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of `shares`, cut to [0, 1]; (0, 1) for fewer than two.

    It covers what differs between the values (draws of training images), nothing else.
    """
    n = len(shares)
    if n < 2:
        return (0.0, 1.0)
    mean = math.fsum(shares) / n
    variance = math.fsum((share - mean) ** 2 for share in shares) / (n - 1)
    half = student_t(n - 1, confidence) * math.sqrt(variance / n)
    return (max(0.0, mean - half), min(1.0, mean + half))


def student_t(degrees: int, confidence: float) -> float:
    """t with P(|T| <= t) = `confidence` for Student's distribution with `degrees` of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))

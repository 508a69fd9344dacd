"""How far a share measured on n pictures can be from the true one."""

from __future__ import annotations

import math

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

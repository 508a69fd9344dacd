"""The table of explanation methods: means over images with 95 % intervals, random in every one.

A mean of areas has Student's interval, a share of hits Wilson's. `better_than_random` is the paired
difference to the random map on the same images, signed so that above 0 is better; it is clear
where its interval leaves 0 out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail import files
from vitrail.evaluation.metrics.intervals import student_t, wilson
from vitrail.explain.faithfulness import MethodCurves

Values = NDArray[np.float64]
Ends = tuple[float, float]
MEASURES = {"deletion": -1, "insertion": 1, "hits": 1, "mass": 1}  # 1: large is good
TITLES = {
    "deletion": "deletion area (small is good)",
    "insertion": "insertion area (large is good)",
    "hits": "points at the object",
    "mass": "mass inside the object",
}


@dataclass(frozen=True)
class FaithfulnessScore:
    """A mean over n images, its interval, and the paired difference to random with its own.

    One image has no interval.
    """

    mean: float
    interval: Ends | None
    better_than_random: float
    better_interval: Ends | None

    @property
    def is_clear(self) -> bool:
        """Whether the method is better than chance beyond doubt."""
        return self.better_interval is not None and self.better_interval[0] > 0


@dataclass(frozen=True)
class MethodScores:
    """One method: figures by the name of the measure."""

    method: str
    n: int
    figures: dict[str, FaithfulnessScore]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        figures = {
            name: {
                "mean": one.mean,
                "interval": one.interval,
                "better_than_random": one.better_than_random,
                "better_interval": one.better_interval,
            }
            for name, one in self.figures.items()
        }
        return {"method": self.method, "n": self.n, **figures}


def summary(judged: Sequence[MethodCurves]) -> list[MethodScores]:
    """A row a method, in the order given. One of them is "random"."""
    chance = next(one for one in judged if one.method == "random")
    rows = []
    for one in judged:
        figures = {}
        for name, sign in MEASURES.items():
            values, base = getattr(one, name), getattr(chance, name)
            if values is None:
                continue
            gain, gain_ends = mean_with_interval(sign * (values - base))
            mean, ends = mean_with_interval(values)  # areas and shares: 0 to 1
            ends = None if ends is None else (max(0.0, ends[0]), min(1.0, ends[1]))
            if name == "hits":
                ends = wilson(int(values.sum()), len(values))
            figures[name] = FaithfulnessScore(mean, ends, gain, gain_ends)
        rows.append(MethodScores(one.method, len(one.deletion), figures))
    return rows


def mean_with_interval(values: Values) -> tuple[float, Ends | None]:
    """Mean of (n,) values and Student's 95 % interval, None for fewer than two."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return mean, None
    half = student_t(n - 1, 0.95) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, (mean - half, mean + half)


def table(rows: Sequence[MethodScores]) -> list[list[str]]:
    """Cells for people, the head first: mean and interval of each measure, * where clear."""
    names = list(rows[0].figures)
    lines = [["method", *(TITLES[name] for name in names)]]
    for row in rows:
        cells = []
        for name in names:
            one = row.figures[name]
            ends = f" ({one.interval[0]:.3f}-{one.interval[1]:.3f})" if one.interval else ""
            cells.append(f"{one.mean:.3f}{ends}{' *' if one.is_clear else ''}")
        lines.append([row.method, *cells])
    return lines


def csv_of(rows: Sequence[MethodScores]) -> str:
    """A line a method and measure."""
    columns = ["method", "measure", "pictures", "mean", "low", "high"]
    columns += ["better_than_random", "better_low", "better_high"]
    return files.csv_text(columns, (_cells(row, name) for row in rows for name in row.figures))


def _cells(row: MethodScores, name: str) -> list[object]:
    one = row.figures[name]
    ends, better = one.interval or ("", ""), one.better_interval or ("", "")
    return [row.method, name, row.n, one.mean, *ends, one.better_than_random, *better]

"""Rows in brief: means over seeds, the best setting of an arm, the difference of two arms.

An interval is Student's, of 95 %, over seeds: it covers what changes with the seed (initial
values, order, drawn subset) and not what other test images would change. That of a share ends at
0 and 1, that of a difference of shares at -1 and 1: beyond there is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vitrail.evaluation.metrics.intervals import student_t
from vitrail.figures.plot import Series
from vitrail.studies.engine.row import Axis, Row

CONFIDENCE = 0.95
SHARES = ("top1", "top5", "ece", "f1_macro", "balanced_accuracy")  # last parts of their names


@dataclass(frozen=True)
class Point:
    """The seeds of one arm at one x. low, high: the interval of their mean, None for one seed.
    values: one a seed, in order of the seeds.
    """

    arm: str
    x: Axis
    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """By how much an arm is above another. low, high: the interval, None where a mean stands on one
    seed. num: pairs, or (not paired) seeds of the arm that has fewer. num_seeds: different seeds.
    """

    mean: float
    low: float | None
    high: float | None
    num: int
    paired: bool
    num_seeds: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def points(rows: Sequence[Row], value: str, x: str) -> dict[str, list[Point]]:
    """The points of each arm, arms in order of appearance, over the axis `x`: numbers in their
    order, texts in order of appearance. Rows without `value` or `x` are left out.

    Each seed may occur once at an x: filter rows, or choose by `best`, where other axes vary.
    """
    found: dict[str, dict[Axis, dict[int, float]]] = {}
    for row in rows:
        if value not in row.values or x not in row.axes:
            continue
        seeds = found.setdefault(row.arm, {}).setdefault(row.axes[x], {})
        assert row.seed not in seeds, f"{row.arm} at {x}={row.axes[x]}: seed {row.seed} twice"
        seeds[row.seed] = row.values[value]
    order = _places([row.axes[x] for row in rows if x in row.axes])
    return {
        arm: [
            _point(arm, at, [seeds[seed] for seed in sorted(seeds)], is_share=is_share(value))
            for at, seeds in sorted(places.items(), key=lambda item: order[item[0]])
        ]
        for arm, places in found.items()
    }


def series(
    name: str,
    line: Sequence[Point],
    *,
    colour: int,
    kind: Literal["line", "marks", "fit"] = "line",
    x_labels: Sequence[str] = (),
) -> Series:
    """`line` for a figure; NaN where a point has no interval. With `x_labels` an x is the place of
    its text among them.
    """
    labels = list(x_labels)
    return Series(
        name=name,
        x=[labels.index(str(one.x)) if labels else float(one.x) for one in line],
        y=[one.mean for one in line],
        low=[math.nan if one.low is None else one.low for one in line],
        high=[math.nan if one.high is None else one.high for one in line],
        kind=kind,
        colour=colour,
    )


def each_arm(lines: Mapping[str, Sequence[Point]]) -> list[Series]:
    """A line for each arm, each in a colour of its own."""
    return [series(arm, line, colour=place) for place, (arm, line) in enumerate(lines.items())]


def best(
    rows: Sequence[Row],
    *,
    choose_by: str,
    over: str,
    within: Sequence[str] = (),
    is_lower_better: bool = False,
) -> list[Row]:
    """The rows of each arm at its own best setting of the axis `over`.

    Best is the mean of `choose_by`, a figure of the validation images. Each value of the axes
    named in `within` has a best of its own. A setting that came to NaN is chosen only where all
    did; of equal ones the first is.
    """
    assert not choose_by.startswith("test/"), f"chosen by {choose_by}: the test must not choose"
    groups: dict[Hashable, dict[Axis, list[Row]]] = {}
    for row in rows:
        if choose_by in row.values and over in row.axes:
            group = (row.arm, *(row.axes.get(name) for name in within))
            groups.setdefault(group, {}).setdefault(row.axes[over], []).append(row)
    sign = -1.0 if is_lower_better else 1.0

    def merit(setting: Sequence[Row]) -> float:
        mean = sign * math.fsum(row.values[choose_by] for row in setting) / len(setting)
        return -math.inf if math.isnan(mean) else mean

    return [row for settings in groups.values() for row in max(settings.values(), key=merit)]


def difference(
    rows: Sequence[Row], first: str, second: str, value: str, *, besides: Sequence[str] = ()
) -> Difference:
    """`value` of the arm `first` less that of `second`.

    Rows of equal axes and seed are pairs, and the interval is that of the mean of their
    differences; `besides` names axes in which a pair may differ (a learning rate that each arm
    chose). With fewer than two pairs it is Welch's interval (Biometrika 34, 1947), from all rows,
    with whole degrees of freedom, rounded down.
    """
    one, other = (_by_place(rows, arm, value, besides) for arm in (first, second))
    assert one, f"no rows of {first} with {value}"
    assert other, f"no rows of {second} with {value}"
    common = [place for place in one if place in other]
    if len(common) > 1 or len(one) == len(other) == len(common):
        gaps = [one[place] - other[place] for place in common]
        mean, half = _student(gaps)
        num_seeds = len({seed for _, seed in common})
        return _difference(value, mean, half, len(gaps), True, num_seeds)
    a, b = list(one.values()), list(other.values())
    mean = math.fsum(a) / len(a) - math.fsum(b) / len(b)
    num_seeds = min(len({seed for _, seed in places}) for places in (one, other))
    return _difference(value, mean, _welch(a, b), min(len(a), len(b)), False, num_seeds)


def in_words(
    found: Difference,
    first: str,
    second: str,
    *,
    unit: str = "points",
    scale: float = 100.0,
    digits: int = 1,
) -> str:
    """`ViT is 3.2 points above BiT (1.1 to 5.3, 3 seeds)`; values are shown times `scale`."""

    def shown(number: float) -> str:
        return f"{round(number * scale, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"

    above = found.mean >= 0
    size = f"{shown(abs(found.mean))} {unit}"
    said = f"{first} is {size} {'above' if above else 'below'} {second}"
    if found.low is None or found.high is None:
        return f"{said} (one seed: no interval)"
    count = f"{found.num_seeds} seed{'' if found.num_seeds == 1 else 's'}"
    if found.paired and found.num != found.num_seeds:
        count = f"{found.num} pairs, {count}"
    if not found.is_clear:
        return (
            f"no evidence of a difference between {first} and {second}: {shown(found.mean)} {unit} "
            f"({shown(found.low)} to {shown(found.high)}, {count})"
        )
    low, high = (found.low, found.high) if above else (-found.high, -found.low)
    return f"{said} ({shown(low)} to {shown(high)}, {count})"


def _places(values: Sequence[Axis]) -> dict[Axis, tuple[int, float]]:
    """Where each value stands: numbers by size, then texts by appearance."""
    return {
        value: (1, float(place)) if isinstance(value, str) else (0, float(value))
        for place, value in reversed(list(enumerate(values)))
    }


def is_share(value: str) -> bool:
    """Whether a figure of this name lies between 0 and 1."""
    return value.rsplit("/")[-1].split("@")[0] in SHARES


def ends(mean: float, half: float | None, least: float) -> tuple[float | None, float | None]:
    """Both ends of an interval, no further than `least` and 1 where the figure cannot be."""
    if half is None:
        return None, None
    return max(least, mean - half), min(1.0 if least > -math.inf else math.inf, mean + half)


def _point(arm: str, x: Axis, values: Sequence[float], *, is_share: bool) -> Point:
    mean, half = _student(values)
    low, high = ends(mean, half, 0.0 if is_share else -math.inf)
    return Point(arm, x, mean, low, high, tuple(values))


def _student(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half the width of its interval."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, None
    return mean, student_t(n - 1, CONFIDENCE) * math.sqrt(_variance(values) / n)


def _welch(a: Sequence[float], b: Sequence[float]) -> float | None:
    if len(a) < 2 or len(b) < 2:
        return None
    u, v = _variance(a) / len(a), _variance(b) / len(b)
    if u + v == 0:
        return 0.0
    degrees = (u + v) ** 2 / (u * u / (len(a) - 1) + v * v / (len(b) - 1))
    return student_t(math.floor(degrees + 1e-9), CONFIDENCE) * math.sqrt(u + v)


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _by_place(
    rows: Sequence[Row], arm: str, value: str, besides: Sequence[str]
) -> dict[tuple[Hashable, int], float]:
    """The value at each (axes, seed) of an arm."""
    found: dict[tuple[Hashable, int], float] = {}
    for row in rows:
        if row.arm != arm or value not in row.values:
            continue
        axes = frozenset(item for item in row.axes.items() if item[0] not in besides)
        place = (axes, row.seed)
        assert place not in found, f"{arm}: two rows of seed {row.seed} at {dict(row.axes)}"
        found[place] = row.values[value]
    return found


def _difference(
    value: str, mean: float, half: float | None, num: int, paired: bool, num_seeds: int
) -> Difference:
    low, high = ends(mean, half, -1.0 if is_share(value) else -math.inf)
    return Difference(mean, low, high, num, paired, num_seeds)

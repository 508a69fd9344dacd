"""What several studies say of their rows in the same way: a table, gaps along an axis, a trend."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

from vitrail.evaluation.metrics.intervals import student_t
from vitrail.studies.engine.cell import short
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.results.summary import (
    CONFIDENCE,
    Difference,
    Point,
    difference,
    ends,
    in_words,
    is_share,
    points,
)


def table(rows: Sequence[Row], value: str, x: str, head: str = "") -> list[list[str]]:
    """Arms down, the axis `x` across: means with intervals over seeds."""
    lines = points(rows, value, x)
    places: dict[Axis, None] = {}
    for row in rows:
        if x in row.axes:
            places[row.axes[x]] = None
    columns = sorted(
        places, key=lambda at: (isinstance(at, str), at if not isinstance(at, str) else 0)
    )
    found = {arm: {point.x: point for point in line} for arm, line in lines.items()}
    return [
        [head, *(grouped(at) for at in columns)],
        *([arm, *(shown(own.get(at)) for at in columns)] for arm, own in found.items()),
    ]


def sentence(words: str) -> str:
    """`words` with a capital at the beginning and a full stop at the end."""
    return f"{words[:1].upper()}{words[1:]}."


def grouped(at: Axis) -> str:
    """A number with thousands apart, or a text."""
    return f"{at:,}" if isinstance(at, int) else short(at)


def shown(point: Point | None) -> str:
    """0.712 (0.703-0.721); a dash for nothing."""
    if point is None:
        return "-"
    if point.low is None or point.high is None:
        return f"{point.mean:.3f}"
    return f"{point.mean:.3f} ({point.low:.3f}-{point.high:.3f})"


def gaps(
    rows: Sequence[Row], first: str, second: str, value: str, x: str
) -> dict[Axis, Difference]:
    """`value` of the arm `first` less that of `second` at every place of `x` that both have."""
    found = {}
    for at in sorted(
        {row.axes[x] for row in rows if value in row.values and x in row.axes}, key=str
    ):
        here = [row for row in rows if row.axes.get(x) == at and value in row.values]
        if {first, second} <= {row.arm for row in here}:
            found[at] = difference(here, first, second, value)
    return dict(sorted(found.items(), key=lambda one: (isinstance(one[0], str), one[0])))


def apart(rows: Sequence[Row], first: str, second: str, value: str) -> Difference:
    """`first` less `second` at one place, with the scatter of seeds taken from all arms in `rows`:
    a few seeds of two arms tell their own scatter badly. Student's interval, degrees of freedom of
    the pooled variance.
    """
    own = {
        arm: [row.values[value] for row in rows if row.arm == arm and value in row.values]
        for arm in dict.fromkeys(row.arm for row in rows)
    }
    means = {arm: math.fsum(one) / len(one) for arm, one in own.items() if one}
    degrees = sum(len(one) - 1 for one in own.values() if one)
    squares = math.fsum((x - means[arm]) ** 2 for arm, one in own.items() for x in one)
    a, b = len(own[first]), len(own[second])
    gap = means[first] - means[second]
    if degrees < 1:
        return Difference(gap, None, None, min(a, b), False, min(a, b))
    half = student_t(degrees, CONFIDENCE) * math.sqrt(squares / degrees * (1 / a + 1 / b))
    low, high = ends(gap, half, -1.0 if is_share(value) else -math.inf)
    return Difference(gap, low, high, min(a, b), False, min(a, b))


def trend(
    rows: Sequence[Row], first: str, second: str, value: str, x: str, ends: tuple[Axis, Axis]
) -> Difference:
    """By how much the gap between two arms grows from one end of `x` to the other, over seeds."""
    low, high = ends
    per_seed = {arm: _at(rows, arm, value, x) for arm in (first, second)}
    moved = []
    for seed in sorted({row.seed for row in rows}):
        keys = [(low, seed), (high, seed)]
        if all(key in per_seed[arm] for arm in (first, second) for key in keys):
            gap = [per_seed[first][key] - per_seed[second][key] for key in keys]
            moved.append(gap[1] - gap[0])
    made = [
        replace(rows[0], seed=seed).seen_as(arm, {"gap": gap})
        for seed, found in enumerate(moved)
        for arm, gap in (("later", found), ("before", 0.0))
    ]
    return difference(made, "later", "before", "gap")


def _at(rows: Sequence[Row], arm: str, value: str, x: str) -> dict[tuple[Axis, int], float]:
    return {
        (row.axes[x], row.seed): row.values[value]
        for row in rows
        if row.arm == arm and value in row.values and x in row.axes
    }


def at_ends(
    rows: Sequence[Row], first: str, second: str, value: str, x: str, what: str
) -> list[str]:
    """How two arms compare at both ends of `x`, and which way the gap moves: three sentences, or
    fewer where there are no such rows.
    """
    found = gaps(rows, first, second, value, x)
    if not found:
        return []
    places = list(found)
    sentences = [
        f"With {grouped(at)} {what}, {in_words(found[at], first, second)}."
        for at in dict.fromkeys((places[0], places[-1]))
    ]
    if len(places) > 1:
        moved = trend(rows, first, second, value, x, (places[0], places[-1]))
        sentences.append(moving(moved, first, second))
    return sentences


def moving(moved: Difference, first: str, second: str) -> str:
    """Which way a gap moves."""
    size = f"{100 * abs(moved.mean):.1f} points"
    towards = first if moved.mean > 0 else second
    if moved.low is None or moved.high is None:
        return f"From one end to the other the gap moves by {size} towards {towards} (one seed)."
    low, high = 100 * moved.low, 100 * moved.high
    if not moved.is_clear:
        said = f"{100 * moved.mean:+.1f} points ({low:.1f} to {high:.1f})"
        return f"No evidence that the gap changes: {said}."
    ends = f"{low:.1f} to {high:.1f}" if moved.mean > 0 else f"{-high:.1f} to {-low:.1f}"
    return f"From one end to the other the gap moves by {size} towards {towards} ({ends})."


def whole(rows: Sequence[Row], over: str, within: Sequence[str] = ()) -> list[Row]:
    """Rows of the settings of `over` that have as many seeds as the fullest one of their arm has,
    so that no setting is chosen for the seeds it lacks. within: as in `summary.best`.
    """
    seeds: dict[Hashable, dict[Axis, set[int]]] = {}
    for row in rows:
        found = seeds.setdefault(_group(row, within), {})
        found.setdefault(row.axes[over], set()).add(row.seed)
    return [
        row
        for row in rows
        if len(seeds[_group(row, within)][row.axes[over]])
        == max(map(len, seeds[_group(row, within)].values()))
    ]


def _group(row: Row, within: Sequence[str]) -> Hashable:
    return (row.arm, *(row.axes.get(name) for name in within))

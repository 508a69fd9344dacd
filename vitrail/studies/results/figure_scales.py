"""The scales of a figure: how far its axes reach, and ticks that read well."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from vitrail.report.frame import shown
from vitrail.studies.results.result import Figure


def short(value: float) -> str:
    """A number of few characters: 0.03, 1.5k, 20M, 3e-4."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    if abs(value) < 0.01:
        digits, power = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"


def set_scales(axes: Any, figure: Figure) -> None:
    """Kinds and limits of the axes, and their ticks."""
    xs = [float(x) for one in figure.series for x in one.x]
    marks = sorted({float(x) for one in figure.series if one.kind != "fit" for x in one.x})
    axes.set_xscale("log" if figure.log_x else "linear")
    axes.set_yscale("log" if figure.log_y else "linear")
    x_ends, y_ends = _spread(xs, figure.log_x, 0.04), _y_limits(figure)
    axes.set_xlim(*x_ends)
    axes.set_ylim(*y_ends)
    _ticks(axes.xaxis, figure.log_x, x_ends, marks, max(xs, default=0.0))
    _ticks(axes.yaxis, figure.log_y, y_ends, (), 0.0)
    if figure.x_labels:
        axes.set_xlim(-0.5, len(figure.x_labels) - 0.5)
        axes.set_xticks(range(len(figure.x_labels)), _labels(figure.x_labels))


def _ticks(
    axis: Any, is_log: bool, ends: tuple[float, float], seen: Sequence[float], last: float
) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

    if is_log:
        places = log_ticks(*ends, seen, last)
    elif _are_apart(seen, ends[1] - ends[0]):
        places = list(seen)
    else:
        locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
        places = [one for one in locator.tick_values(*ends) if ends[0] <= one <= ends[1]]
    texts = [short(one) for one in places]
    if not is_log and all(text.lstrip("-").replace(".", "", 1).isdigit() for text in texts):
        digits = max((len(text.partition(".")[2]) for text in texts), default=0)
        texts = [f"{one:.{digits}f}" for one in places]  # 0.70 beside 0.75
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter(texts))
    axis.set_minor_locator(NullLocator())


def _are_apart(seen: Sequence[float], span: float) -> bool:
    """Whether points, or their logarithms, are few and far enough apart to be the ticks."""
    gaps = [after - before for before, after in zip(seen, seen[1:], strict=False)]
    return 2 <= len(seen) <= 9 and min(gaps) > span / 11


def _labels(names: Sequence[str]) -> list[str]:
    """Names of categories, wrapped to the room that each has."""
    room = max(8, 58 // max(len(names), 1))
    return [textwrap.fill(shown(name), room, break_long_words=False) for name in names]


def log_ticks(low: float, high: float, seen: Sequence[float], last: float = 0.0) -> list[float]:
    """Ticks of a logarithmic axis: where the points are, if they are few and apart, and on to
    `last`, where a fit ends; else powers of ten, with 2 and 5 (or all whole steps) between them on
    a short axis.
    """
    span = math.log10(high / low)
    if _are_apart([math.log10(one) for one in seen], span):
        ticks, ratio = list(seen), seen[-1] / seen[-2]
        while ticks[-1] * ratio**1.5 <= last:
            ticks.append(ticks[-1] * ratio)
        return [*ticks, last] if last > ticks[-1] * ratio**0.5 else ticks
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: tuple[float, ...] = ()
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            break
    return ticks


def _spread(values: Sequence[float], is_log: bool, margin: float) -> tuple[float, float]:
    """The ends of an axis with room at both sides."""
    low, high = (min(values), max(values)) if values else (1.0, 2.0)
    if is_log:
        room = (high / low) ** margin if high > low else 2.0
        return low / room, high * room
    room = (high - low) * margin or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _y_limits(figure: Figure) -> tuple[float, float]:
    """All values, and as much of their intervals as leaves the values a third of the height."""
    ys = [y for one in figure.series for y in one.y if math.isfinite(y)]
    ends = [y for one in figure.series for y in (*one.low, *one.high) if math.isfinite(y)]
    if figure.log_y:
        ys, ends = ([y for y in values if y > 0] for values in (ys, ends))
        return _spread([*ys, *ends], True, 0.06)
    low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
    room = (high - low) or abs(high) * 0.1 or 1.0
    low, high = (max(min([low, *ends]), low - room), min(max([high, *ends]), high + room))
    return _spread([low, high], False, 0.05)

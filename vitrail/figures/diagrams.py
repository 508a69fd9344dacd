"""Diagrams: shares as a matrix, bars over intervals, and shares on a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitrail.figures.plot import BARE_HEIGHT, BARE_WIDTH, EDGE, LEFT
from vitrail.figures.scales import Scale, short, ticks
from vitrail.figures.svg import Svg
from vitrail.spelling import printable

MAX_NUMBERED = 20  # rows of a matrix with the counts written into the cells
NAME_LENGTH = 20  # letters of a name beside a matrix


def matrix(
    names: Sequence[str], count: Callable[[str, str], int], total: Callable[[str], int], title: str
) -> Svg:
    """A square for each (row, column) of `names`, the stronger, the larger its share of the row's
    total: colour one on the diagonal, two elsewhere.
    """
    side = 34 if len(names) <= 12 else 26 if len(names) <= MAX_NUMBERED else 20
    longest = max((len(printable(name)) for name in names), default=1)
    margin = min(150, 14 + 6.6 * min(longest, NAME_LENGTH))
    size = margin + side * len(names) + 4
    drawing = Svg(size + 70, size, title, is_fixed=True)
    for row, label in enumerate(names):
        y = margin + row * side
        drawing.text("end", margin - 7, y + side / 2 + 4, _clipped(label))
        drawing.text("", y + side / 2 + 4, margin - 8, _clipped(label), turn=-60)
        for column, other in enumerate(names):
            n, x = count(label, other), margin + column * side
            drawing.rect("cell soft", x, y, side, side)
            if not n:
                continue
            share = n / max(total(label), 1)
            shade = 0.12 + 0.88 * min(1.0, share) ** 0.6
            hint = f"actual {label}, predicted {other}: {n} ({share:.1%})"
            kind = "cell f1" if label == other else "cell f2"
            drawing.rect(kind, x, y, side, side, opacity=shade, hint=hint)
            if len(names) <= MAX_NUMBERED:
                tone = "mid on through" if shade > 0.55 else "mid in through"
                drawing.text(tone, x + side / 2, y + side / 2 + 4, short(n))
    return drawing


def _clipped(name: str) -> str:
    whole = printable(name)
    return whole if len(whole) <= NAME_LENGTH else whole[: NAME_LENGTH - 2] + ".."


@dataclass(frozen=True)
class Bar:
    """From `low` to `high` along x, as high as `value`; `level`: a line across it; its words."""

    low: float
    high: float
    value: float
    hint: str
    level: float | None = None


def bars(
    found: Sequence[Bar], *, title: str, x_name: str, top: float, is_diagonal: bool = False
) -> Svg:
    """Bars over shares from 0 to 1; is_diagonal: a dashed line where x and y are equal."""
    drawing = Svg(BARE_WIDTH, BARE_HEIGHT + 40, title)
    x = Scale(0, 1, LEFT, BARE_WIDTH - EDGE)
    y = Scale(0, top, BARE_HEIGHT + EDGE, EDGE)
    for value in ticks(0, top, 5 if top == 1 else 4):
        drawing.line("gridline", x.start, y(value), x.end, y(value))
        drawing.text("end", x.start - 6, y(value) + 4, short(value))
    for value in ticks(0, 1):
        drawing.text("end" if value == 1 else "mid", x(value), y.start + 15, f"{value:g}")
    drawing.text("mid", (x.start + x.end) / 2, y.start + 28, x_name)
    for one in found:
        left, right, at = x(one.low) + 1, x(one.high) - 1, y(one.value)
        drawing.rect("f1", left, at, right - left, y.start - at, opacity=0.75, hint=one.hint)
        if one.level is not None:
            drawing.line("line s2", left, y(one.level), right, y(one.level))
    if is_diagonal:
        drawing.line("axis dash", x(0), y(0), x(1), y(1))
    return drawing


def strip(
    share: float, interval: tuple[float, float], others: Sequence[tuple[str, float]], name: str
) -> Svg:
    """0 to 100 % as a line: the 95 % interval, the share of `name`, and what others reach."""
    low, high = interval
    title = f"Top-1 {share:.4f}, interval {low:.4f} to {high:.4f}"
    drawing = Svg(0, 0, title, kind="strip")
    drawing.line("gridline", 0, 38, "100%", 38)
    for place in range(0, 101, 10):
        drawing.line("gridline", f"{place}%", 34, f"{place}%", 42)
    drawing.rect("f1", f"{low:.2%}", 32, f"{high - low:.2%}", 12, opacity=0.3)
    drawing.line("line s1", f"{share:.2%}", 27, f"{share:.2%}", 49)
    _label(drawing, share, 18, name, "strong")
    reached = [-1.0, -1.0]  # how far labels reach on two rows, in shares of the width
    for title, value in sorted(others, key=lambda item: item[1]):
        row = 0 if value - reached[0] > 0.42 or reached[0] < 0 else 1
        reached[row] = value
        drawing.circle("hollow s2", f"{value:.2%}", 38, 5)
        _label(drawing, value, 63 + 17 * row, title, "")
    drawing.kind = "strip high" if reached[1] >= 0 else "strip"
    return drawing


def _label(drawing: Svg, share: float, y: float, name: str, kind: str) -> None:
    anchor = "end" if share > 0.6 else "mid" if share > 0.4 else ""
    said = f"{name} {share:.1%}".replace("%", " %")
    drawing.text(f"{kind} {anchor}".strip(), f"{share:.2%}", y, said)

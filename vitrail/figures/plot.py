"""Plots: series of points over a common x, for a page, a file or PNG.

A series has a colour, a marker and a dash of its own, so that it is known without colours. Points
of several series at the same x stand side by side by a few pixels, so that their intervals can be
seen. Widths of words are estimated: a page draws them in the reader's own font.
"""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vitrail.figures.palette import FONT_PX, SERIES, TITLE_PX
from vitrail.figures.scales import (
    Scale,
    labels_of,
    log_ticks,
    short,
    spread,
    ticks,
    ticks_at,
)
from vitrail.figures.svg import Svg
from vitrail.spelling import printable

WIDTH, HEIGHT = 480, 262  # px of a whole figure, and of the plot in it
BARE_WIDTH, BARE_HEIGHT = 380, 180  # without title and legend, for a grid of figures
EDGE, LEFT, LINE_PX = 10, 42, 14  # px: around all, at least left of a plot, a line of text
SIDE_PX, SIDES_PX = 4.5, 21.0  # between points of two series at one x, of the first and last
NAME_LENGTH = 34  # characters of a line of the legend
MARKED = ("line", "marks", "dots")  # kinds of series with a mark at each point
DASHES = ("", " dash2", " dash3", " dash4", " dash5")


def _corners(count: int, turn: float, *radii: float) -> list[tuple[float, float]]:
    """Corners around 0, the first at `turn` of a circle from the right; their radii in turn."""
    angles = [2 * math.pi * (turn + i / count) for i in range(count)]
    sizes = [radii[i % len(radii)] for i in range(count)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(sizes, angles, strict=True)]


_ARMS = ((1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3))
_CROSS = [(sign * x, sign * y) for sign in (1, -1) for x, y in _ARMS]
# disc, square, triangle, diamond, triangle, cross, turned cross, pentagon
MARKERS: tuple[list[tuple[float, float]], ...] = (
    [],
    _corners(4, 1 / 8, 1.25),
    _corners(3, -1 / 4, 1.4),
    _corners(4, 0, 1.3),
    _corners(3, 1 / 4, 1.4),
    [(x * 0.42, y * 0.42) for x, y in _CROSS],
    [((x - y) * 0.3, (x + y) * 0.3) for x, y in _CROSS],
    _corners(5, -1 / 4, 1.25),
)


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one name, in the order of x. low, high: ends of the 95 % interval of each y,
    or empty. kind: marks joined by a line; marks alone; a fit, whose interval is a band, in the
    colour of its points; a curve without marks, also a faint one; many light dots. colour: 0, 1, 2
    ... of the palette.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    kind: Literal["line", "marks", "fit", "curve", "faint", "dots"] = "line"
    colour: int = 0

    @property
    def ink(self) -> int:
        """The number of its colour among the kinds of marks, s1 and f1 to s7 and f7."""
        return self.colour % len(SERIES) + 1


@dataclass(frozen=True)
class Figure:
    """A plot. key: its file name. x_labels: names of the positions 0, 1, 2 ... where x is a
    category. note: one sentence below it. level, mark: a dashed line across and one upwards, with
    their names. zero: y begins at 0 where that costs little room, or always.
    """

    key: str
    title: str
    x_name: str
    y_name: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    x_labels: Sequence[str] = ()
    note: str = ""
    level: tuple[str, float] | None = None
    mark: tuple[str, float] | None = None
    zero: Literal["", "cheap", "always"] = ""


def curve(name: str, points: Iterable[tuple[float, float]], colour: int = 0) -> Series:
    """A curve through points (x, y)."""
    listed = list(points)
    return Series(name, [x for x, _ in listed], [y for _, y in listed], kind="curve", colour=colour)


def plot(figure: Figure, *, is_bare: bool = False) -> Svg:
    """The drawing; a bare one has neither title nor legend nor the name of y."""
    x_ends, y_ends = _ends(figure)
    rise = log_ticks(*y_ends, ()) if figure.log_y else ticks(*y_ends, 4 if is_bare else 6)
    rungs = list(zip(rise, labels_of(rise, is_log=figure.log_y), strict=True))
    across = _x_ticks(figure, x_ends)
    lines = max((len(words) for _, words in across), default=1)
    drawing = Svg(
        BARE_WIDTH if is_bare else WIDTH, 0, figure.title if is_bare else alt_text(figure)
    )
    top = EDGE if is_bare else _heading(drawing, figure)
    left = max([LEFT, *(text_width(label) + 2 * EDGE for _, label in rungs)])
    bottom = top + (BARE_HEIGHT if is_bare else HEIGHT)
    x = Scale(*x_ends, left, drawing.width - EDGE, figure.log_x)
    y = Scale(*y_ends, bottom, top, figure.log_y)
    drawing.height = bottom + 20 + 13 * lines
    _axes(drawing, x, y, across, rungs, figure.x_name)
    _levels(drawing, figure, x, y)
    for one, side in zip(figure.series, _sides(figure.series), strict=True):
        _series(drawing, one, x, y, side)
    return drawing


def alt_text(figure: Figure) -> str:
    """What the figure shows, in words: axes, and the ends of each series."""
    said = [f"{figure.title}. {figure.y_name} over {figure.x_name}."]
    for one in figure.series:
        if one.kind == "fit" or not len(one.x):
            continue
        first, last = (
            f"{one.y[i]:.3g} at {_x_text(figure, one.x[i])}" for i in (0, len(one.x) - 1)
        )
        said.append(f"{one.name}: {first}" + (f", {last}." if len(one.x) > 1 else "."))
    return printable(" ".join(said))


def balanced(text: str, room: int) -> list[str]:
    """`text` on as few lines of at most `room` characters as it needs, of about one length."""
    lines = textwrap.wrap(text, room) or [""]
    while room > 1 and len(shorter := textwrap.wrap(text, room - 1)) == len(lines):
        room, lines = room - 1, shorter
    return lines


def text_width(text: str, px: float = FONT_PX) -> float:
    """About how wide a line of text is, in px."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return px * (0.56 * (len(text) - wide) + wide)


def _x_text(figure: Figure, x: float) -> str:
    return figure.x_labels[round(x)] if figure.x_labels else short(x)


def _ends(figure: Figure) -> tuple[tuple[float, float], tuple[float, float]]:
    """How far both axes reach."""
    if figure.x_labels:
        return (-0.5, len(figure.x_labels) - 0.5), _y_ends(figure)
    xs = [float(x) for one in figure.series for x in one.x]
    xs += [figure.mark[1]] if figure.mark else []
    is_curve = all(one.kind in ("curve", "faint") for one in figure.series)
    return spread(xs, 0.0 if is_curve else 0.04, is_log=figure.log_x), _y_ends(figure)


def _y_ends(figure: Figure) -> tuple[float, float]:
    """All values, and as much of their intervals as leaves the values a third of the height."""
    ys = [y for one in figure.series for y in one.y if math.isfinite(y)]
    ys += [figure.level[1]] if figure.level else []
    ends = [y for one in figure.series for y in (*one.low, *one.high) if math.isfinite(y)]
    if figure.log_y:
        ys, ends = ([y for y in values if y > 0] for values in (ys, ends))
        return spread([*ys, *ends], 0.06, is_log=True)
    low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
    room = (high - low) or abs(high) * 0.1 or 1.0
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    if figure.zero == "always" or (figure.zero and 0 <= low <= 0.7 * high):
        return 0.0, high * 1.06
    return spread([low, high], 0.05)


def _x_ticks(figure: Figure, ends: tuple[float, float]) -> list[tuple[float, list[str]]]:
    """Places along x with their names, which may take several lines."""
    if figure.x_labels:
        room = max(8, 58 // len(figure.x_labels))
        names = map(printable, figure.x_labels)
        lines = [textwrap.wrap(name, room, break_long_words=False) or [""] for name in names]
        return list(zip(map(float, range(len(lines))), lines, strict=True))
    measured = [one for one in figure.series if one.kind in MARKED]
    marks = sorted({float(x) for one in measured for x in one.x})
    last = max((float(x) for one in figure.series for x in one.x), default=0.0)
    places = log_ticks(*ends, marks, last) if figure.log_x else ticks_at(*ends, marks)
    texts = labels_of(places, is_log=figure.log_x)
    return [(place, [text]) for place, text in zip(places, texts, strict=True)]


def _heading(drawing: Svg, figure: Figure) -> float:
    """Title, legend and name of y from the top, all to the left; returns where the plot begins."""
    at = EDGE + 2.0
    room = int((WIDTH - 2 * EDGE) / text_width("x", TITLE_PX * 1.04))
    for line in balanced(printable(figure.title), room):
        at += TITLE_PX + 3
        drawing.text("title", EDGE, at - 5, line)
    entries = _entries(figure.series)
    if len(entries) > 1:
        at = _legend(drawing, entries, at + 5)
    drawing.text("", EDGE, at + LINE_PX, figure.y_name)
    return at + 2 * LINE_PX - 2


def _entries(series: Sequence[Series]) -> list[tuple[Series, bool]]:
    """Series of the legend, each with whether a line goes with it; a fit is shown with the points
    of its colour.
    """
    fits = {one.colour for one in series if one.kind == "fit"}
    points = {one.colour for one in series if one.kind != "fit"}
    return [
        (one, one.kind not in ("marks", "dots") or one.colour in fits)
        for one in series
        if one.kind != "fit" or one.colour not in points
    ]


def _legend(drawing: Svg, entries: Sequence[tuple[Series, bool]], top: float) -> float:
    """Entries beside one another, as many in a line as have room; returns where they end."""
    left, rows, sample = float(EDGE), 1, 30 if any(has_line for _, has_line in entries) else 12
    for one, has_line in entries:
        lines = textwrap.wrap(printable(one.name), NAME_LENGTH) or [""]
        width = sample + max(map(text_width, lines)) + 16
        if left > EDGE and left + width > WIDTH:
            left, top, rows = EDGE, top + LINE_PX * rows, 1
        rows = max(rows, len(lines))
        if has_line:
            ends = [(left, top + 7), (left + 24, top + 7)]
            drawing.path(_line_kind(one), ends)
        if one.kind in MARKED:
            _marker(drawing, one, left + (12 if has_line else 4), top + 7)
        for number, line in enumerate(lines):
            drawing.text("in", left + sample, top + 11 + LINE_PX * number, line)
        left += width
    return top + LINE_PX * rows + 3


def _axes(
    drawing: Svg,
    x: Scale,
    y: Scale,
    across: Sequence[tuple[float, list[str]]],
    rungs: Sequence[tuple[float, str]],
    x_name: str,
) -> None:
    for value, label in rungs:
        drawing.line("gridline", x.start, y(value), x.end, y(value))
        drawing.text("end", x.start - 6, y(value) + 4, label)
    for value, words in across:
        half = max(map(text_width, words)) / 2
        at = min(x(value), drawing.width - 2 - half)
        drawing.line("axis", x(value), y.start, x(value), y.start + 3)
        for number, line in enumerate(words):
            drawing.text("mid", at, y.start + 15 + 13 * number, line)
    drawing.line("axis", x.start, y.start, x.end, y.start)
    drawing.text("mid", (x.start + x.end) / 2, drawing.height - 5, x_name)


def _levels(drawing: Svg, figure: Figure, x: Scale, y: Scale) -> None:
    """The dashed lines with their names."""
    if figure.level:
        name, value = figure.level
        at = y(value)
        drawing.line("axis dash", x.start, at, x.end, at)
        drawing.text("end halo", x.end, at + (13 if at < y.end + 16 else -5), name)
    if figure.mark:
        name, value = figure.mark
        drawing.line("axis dash", x(value), y.end, x(value), y.start)
        is_right = x(value) > (x.start + x.end) / 2
        side = -5 if is_right else 5
        drawing.text("end halo" if is_right else "halo", x(value) + side, y.end + 10, name)


def _sides(series: Sequence[Series]) -> list[float]:
    """How far, in px, the marks of each series stand beside their x: only where intervals of
    several would hide one another.
    """
    sides = [0.0] * len(series)
    marked = [place for place, one in enumerate(series) if one.kind in MARKED]
    xs = [x for place in marked for x in set(series[place].x)]
    if len(set(xs)) == len(xs) or not any(series[place].low for place in marked):
        return sides
    middle = (len(marked) - 1) / 2
    step = min(SIDE_PX, SIDES_PX / (2 * middle))
    for number, place in enumerate(marked):
        sides[place] = (number - middle) * step
    return sides


def _series(drawing: Svg, one: Series, x: Scale, y: Scale, side: float) -> None:
    """Draw a series; its marks stand `side` px to the right of their x."""
    spans = [
        (x(a) + side, y(low), y(high)) for a, low, high in _finite(y, one.x, one.low, one.high)
    ]
    if one.kind == "fit" and spans:
        edge = [(a, high) for a, _, high in spans] + [(a, low) for a, low, _ in reversed(spans)]
        drawing.path(f"f{one.ink} band", edge, is_area=True)
    elif spans:
        for a, low, high in spans:
            drawing.line(f"s{one.ink} thin", a, low, a, high)
    points = [(x(a) + side, y(b)) for a, b in _finite(y, one.x, one.y)]
    if one.kind not in ("marks", "dots") and len(points) > 1:
        drawing.path(_line_kind(one), points)
    if one.kind in MARKED or len(points) == 1:
        for a, b in points:
            _marker(drawing, one, a, b)


def _finite(y: Scale, *columns: Sequence[float]) -> Iterator[tuple[float, ...]]:
    """The points whose values have a place on the scale of y; the first column is x."""
    for point in zip(*columns, strict=False):
        if all(math.isfinite(one) and (one > 0 or not y.is_log) for one in point[1:]):
            yield point


def _line_kind(one: Series) -> str:
    faint = " faint" if one.kind == "faint" else ""
    is_curve = one.kind in ("curve", "faint")
    return f"line s{one.ink}{faint}{'' if is_curve else DASHES[one.colour % len(DASHES)]}"


def _marker(drawing: Svg, one: Series, x: float, y: float) -> None:
    """The mark of a series: each colour has a shape of its own."""
    kind = f"f{one.ink} {'light' if one.kind == 'dots' else 'edged'}"
    corners = MARKERS[one.colour % len(MARKERS)]
    if corners:
        drawing.path(kind, [(x + 3.4 * a, y + 3.4 * b) for a, b in corners], is_area=True)
    else:
        drawing.circle(kind, x, y, 3.4)

"""Figures as inline SVG: no library, no style attributes; colours come from the page's style sheet.

Classes s1 s2 s3 are strokes and f1 f2 f3 fills of three colours that people with any colour vision
can tell apart; a second mark (dashes, text) always goes with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from vitrail.report.frame import shown

Points = Sequence[tuple[float, float]]
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 10, 30  # px around a plot
WIDTH, HEIGHT = 380, 220


@dataclass(frozen=True)
class Line:
    """A curve: its name, points (x, y), its colour 1 to 3."""

    name: str
    points: Points
    colour: int = 1


@dataclass(frozen=True)
class Scale:
    """Values [low, high] on a plot's pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low or 1)
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`, in steps of 1, 2 or 5 times 10^n."""
    span = max(high - low, 1e-12)
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if raw <= factor * power * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number of few characters: 0.25, 1.2k, 3e-04."""
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def plot(
    lines: Sequence[Line],
    *,
    title: str,
    x_name: str,
    y_range: tuple[float, float] | None = None,
    level: tuple[str, float] | None = None,
) -> str:
    """Curves over a common x; `level` is a dashed line with its name. SVG, or "" without points."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + ([level[1]] if level else [])
    if not xs:
        return ""
    low, high = y_range or _rounded(min(ys), max(ys))
    x = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = Scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = _grid(x, y, x_name)
    if level:
        at = y(level[1])
        below = at < TOP + 16
        parts.append(
            f'<line class="axis dash" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        )
        y_text = at + (13 if below else -5)
        parts.append(
            f'<text class="end halo" x="{WIDTH - RIGHT}" y="{y_text:.1f}">{text(level[0])}</text>'
        )
    for line in lines:
        path = " ".join(f"{x(a)},{y(min(max(b, low), high))}" for a, b in line.points)
        dash = " faint" if line.colour == 1 and len(lines) > 1 else ""
        parts.append(f'<polyline class="line s{line.colour}{dash}" points="{path}"/>')
        if len(line.points) == 1:
            (a, b), *_ = line.points
            parts.append(f'<circle class="f{line.colour}" cx="{x(a)}" cy="{y(b)}" r="3"/>')
    return svg(WIDTH, HEIGHT, title, parts)


def dots(
    values: NDArray[np.float64],
    *,
    title: str,
    level: tuple[str, float] | None = None,
) -> str:
    """values: (L, heads). A dot a head over the layers, and the mean of each layer as a line."""
    highest = max(float(values.max()), level[1] if level else 0.0)
    x = Scale(-0.5, len(values) - 0.5, LEFT, WIDTH - RIGHT)
    y = Scale(0, highest * 1.06 or 1.0, HEIGHT - BOTTOM, TOP)
    parts = _levels(y, x)
    every = max(1, -(-len(values) // 12))
    for layer in range(0, len(values), every):
        parts.append(f'<text class="mid" x="{x(layer)}" y="{y.start + 15}">{layer}</text>')
    middle = (x.start + x.end) / 2
    parts.append(f'<text class="mid" x="{middle}" y="{y.start + 28}">layer</text>')
    if level:
        at = y(level[1])
        parts.append(f'<line class="axis dash" x1="{LEFT}" x2="{x.end}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="end halo" x="{x.end}" y="{at + 13}">{text(level[0])}</text>')
    for layer, heads in enumerate(values):
        parts += [f'<circle class="f1 light" cx="{x(layer)}" cy="{y(float(one))}" r="3.4"/>'
                  for one in heads]  # fmt: skip
    path = " ".join(f"{x(layer)},{y(float(one))}" for layer, one in enumerate(values.mean(axis=1)))
    parts.append(f'<polyline class="line s2" points="{path}"/>')
    return svg(WIDTH, HEIGHT, title, parts)


def _rounded(low: float, high: float) -> tuple[float, float]:
    """The range to show: from 0 where that costs little room, else just around the values."""
    if 0 <= low <= 0.7 * high:
        low = 0.0
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (low if low == 0 else low - margin), high + margin


def _levels(y: Scale, x: Scale) -> list[str]:
    parts = []
    for value in ticks(y.low, y.high, 4):
        at = y(value)
        parts.append(f'<line class="gridline" x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="end" x="{x.start - 6}" y="{at + 4}">{short(value)}</text>')
    return parts


def _grid(x: Scale, y: Scale, x_name: str) -> list[str]:
    parts = _levels(y, x)
    for value in ticks(x.low, x.high, 6):
        at = x(value)
        end = " end" if at > x.end - 8 else " mid"
        parts.append(
            f'<text class="{end.strip()}" x="{at}" y="{y.start + 15}">{short(value)}</text>'
        )
    middle = (x.start + x.end) / 2
    parts.append(f'<text class="mid" x="{middle}" y="{y.start + 28}">{text(x_name)}</text>')
    return parts


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """An SVG element that scales with its place; `title` is what a screen reader says."""
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(title)}">'
        f"{''.join(parts)}</svg>"
    )


def verdict_strip(
    share: float, interval: tuple[float, float], baselines: Sequence[tuple[str, float]]
) -> str:
    """0 to 100 % as a line: the 95 % interval, the figure, and what baselines reach."""
    low, high = interval
    parts = [
        '<line class="gridline" x1="0" x2="100%" y1="38" y2="38"/>',
        *(
            f'<line class="gridline" x1="{i}%" x2="{i}%" y1="34" y2="42"/>'
            for i in range(0, 101, 10)
        ),
        f'<rect class="f1" x="{low:.2%}" y="32" width="{high - low:.2%}" height="12" rx="2" '
        'fill-opacity="0.3"/>',
        f'<line class="line s1" x1="{share:.2%}" x2="{share:.2%}" y1="27" y2="49"/>',
        _label(share, 18, f"this model {share:.1%}".replace("%", " %"), "strong"),
    ]
    rows = [-1.0, -1.0]  # how far labels reach on two rows, in shares of the width
    for title, value in sorted(baselines, key=lambda item: item[1]):
        row = 0 if value - rows[0] > 0.42 or rows[0] < 0 else 1
        rows[row] = value
        parts.append(f'<circle class="hollow s2" cx="{value:.2%}" cy="38" r="5"/>')
        parts.append(
            _label(
                value, 63 + 17 * row, f"{title.split(' (')[0]} {value:.1%}".replace("%", " %"), ""
            )
        )
    kind = "strip high" if rows[1] >= 0 else "strip"
    return Markup(  # noqa: S704
        f'<svg class="{kind}" role="img" aria-label="Top-1 {share:.4f}, interval '
        f'{low:.4f} to {high:.4f}">{"".join(parts)}</svg>'
    )


def _label(share: float, y: float, content: str, kind: str) -> str:
    anchor = "end" if share > 0.6 else "mid" if share > 0.4 else ""
    return (
        f'<text class="{f"{kind} {anchor}".strip()}" x="{share:.2%}" y="{y}">{text(content)}</text>'
    )


def text(value: object) -> str:
    """`value` as plain text, safe in elements and in quoted attributes."""
    return escape(shown(value))

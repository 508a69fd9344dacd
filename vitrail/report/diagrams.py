"""The two diagrams of a classifier's errors: the confusion matrix and the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vitrail.report.figures import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    short,
    svg,
    text,
    ticks,
)
from vitrail.report.frame import shown

Counts = Mapping[tuple[str, str], int]
MAX_CLASSES = 30
MAX_NUMBERED = 20  # classes with the counts written into the cells


def most_confused(cells: Counts, classes: Sequence[str]) -> list[str]:
    """The classes to show, in class order: all, or the 30 with most errors either way."""
    if len(classes) <= MAX_CLASSES:
        return list(classes)
    errors = dict.fromkeys(classes, 0)
    for (label, predicted), n in cells.items():
        if label != predicted:
            errors[label] = errors.get(label, 0) + n
            errors[predicted] = errors.get(predicted, 0) + n
    order = {name: i for i, name in enumerate(classes)}
    worst = sorted(errors, key=lambda name: (-errors[name], order.get(name, 0)))[:MAX_CLASSES]
    return sorted(worst, key=lambda name: order.get(name, 0))


def pairs(cells: Counts, count: int = 12) -> list[tuple[str, str, int]]:
    """The most frequent errors: (label, prediction, n)."""
    wrong = [(a, b, n) for (a, b), n in cells.items() if a != b]
    return sorted(wrong, key=lambda item: (-item[2], item[0], item[1]))[:count]


def confusion_matrix(cells: Counts, classes: Sequence[str], totals: Mapping[str, int]) -> str:
    """Rows: labels, columns: predictions, shade: share of the row. Blue is right, orange wrong."""
    side = 34 if len(classes) <= 12 else 26 if len(classes) <= 20 else 20
    longest = max((len(shown(name)) for name in classes), default=1)
    margin = min(150, 14 + 6.6 * min(longest, 20))
    parts = []
    for row, label in enumerate(classes):
        y = margin + row * side
        parts.append(
            f'<text class="end" x="{margin - 7}" y="{y + side / 2 + 4}">{_clipped(label)}</text>'
        )
        x = margin + row * side + side / 2
        parts.append(
            f'<text x="{x + 4}" y="{margin - 8}" transform="rotate(-60 {x + 4} {margin - 8})">'
            f"{_clipped(label)}</text>"
        )
        for column, predicted in enumerate(classes):
            n = cells.get((label, predicted), 0)
            share = n / max(totals.get(label, 0), 1)
            parts.append(_square(margin + column * side, y, side, n, share, label, predicted,
                                numbered=len(classes) <= MAX_NUMBERED))  # fmt: skip
    size = margin + side * len(classes) + 4
    drawing = svg(size + 70, size, "Confusion matrix: rows are labels, columns predictions", parts)
    return Markup(str(drawing).replace("<svg ", f'<svg width="{size + 70:.0f}" ', 1))  # noqa: S704


def _square(
    x: float,
    y: float,
    side: float,
    n: int,
    share: float,
    label: str,
    predicted: str,
    *,
    numbered: bool,
) -> str:
    kind = "f1" if label == predicted else "f2"
    shade = 0.12 + 0.88 * min(1.0, share) ** 0.6
    place = f'x="{x}" y="{y}" width="{side}" height="{side}"'
    if not n:
        return f'<rect class="cell soft" {place}/>'
    back = (
        f'<rect class="cell soft" {place}/><rect class="cell {kind}" {place} '
        f'fill-opacity="{shade:.2f}"><title>{text(label)} taken for {text(predicted)}: {n} '
        f"({share:.1%})</title></rect>"
    )
    if not numbered:
        return back
    tone = "on" if shade > 0.55 else "in"
    return back + (
        f'<text class="mid {tone}" x="{x + side / 2}" y="{y + side / 2 + 4}" '
        f'pointer-events="none">{short(n)}</text>'
    )


def _clipped(name: str, length: int = 20) -> str:
    whole = shown(name)
    return text(whole if len(whole) <= length else whole[: length - 2] + "..")


def reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy of each bin of confidence as a bar; on the dashed line both are equal."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    parts = _axes(x, y, "confidence", [0, 0.2, 0.4, 0.6, 0.8, 1])
    for one in bins:
        if not one["n"]:
            continue
        left, right, top = x(one["low"]) + 1, x(one["high"]) - 1, y(one["accuracy"])
        parts.append(
            f'<rect class="f1" x="{left}" y="{top}" width="{right - left:.1f}" '
            f'height="{y.start - top:.1f}" fill-opacity="0.75"><title>{one["n"]} pictures, '
            f"confidence {one['confidence']:.3f}, accuracy {one['accuracy']:.3f}</title></rect>"
        )
        at = y(one["confidence"])
        parts.append(f'<line class="line s2" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>')
    parts.append(f'<line class="axis dash" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    return svg(WIDTH, HEIGHT, "Reliability diagram", parts)


def confidence_histogram(bins: Sequence[Mapping[str, Any]]) -> str:
    """How many pictures have which confidence."""
    most = max((one["n"] for one in bins), default=0) or 1
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, most * 1.05, HEIGHT - BOTTOM, TOP)
    parts = _axes(x, y, "confidence", ticks(0, most, 4))
    for one in bins:
        left, right, top = x(one["low"]) + 1, x(one["high"]) - 1, y(one["n"])
        parts.append(
            f'<rect class="f1" x="{left}" y="{top}" width="{right - left:.1f}" '
            f'height="{y.start - top:.1f}"><title>{one["low"]:.3f} to {one["high"]:.3f}: '
            f"{one['n']} pictures</title></rect>"
        )
    return svg(WIDTH, HEIGHT, "Histogram of confidence", parts)


def _axes(x: Scale, y: Scale, x_name: str, levels: Sequence[float]) -> list[str]:
    parts = []
    for value in levels:
        at = y(value)
        parts.append(f'<line class="gridline" x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="end" x="{x.start - 6}" y="{at + 4}">{short(value)}</text>')
    for value in (0, 0.2, 0.4, 0.6, 0.8, 1):
        anchor = "end" if value == 1 else "mid"
        parts.append(f'<text class="{anchor}" x="{x(value)}" y="{y.start + 15}">{value:g}</text>')
    parts.append(
        f'<text class="mid" x="{(x.start + x.end) / 2}" y="{y.start + 28}">{x_name}</text>'
    )
    return parts

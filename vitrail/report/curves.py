"""The curves of a run, drawn and as numbers."""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.report.figures import Line, figure, plot
from vitrail.report.frame import details, number, section, table
from vitrail.report.run_record import RunRecord

MAX_POINTS = 300  # of a curve; beyond, neighbours are averaged
MAX_ROWS = 400  # of a table of numbers


def curves_section(record: RunRecord) -> str:
    """Loss, top-1 and learning rate over epochs."""
    level = next(iter(record.baselines.items()), None)
    drawn = []
    for caption, keys, base in (
        ("Loss (nats)", ("train/loss", "val/loss"), None),
        ("Top-1", ("train/top1", "val/top1"), level),
        ("Learning rate", ("optim/lr",), None),
    ):
        lines = [Line(key, thin(record.curve(key)), 1 + i) for i, key in enumerate(keys)]
        lines = [line for line in lines if line.points]
        mark = (base[0].split(" (")[0], base[1]) if base and lines else None
        drawing = plot(lines, title=caption, x_name="epoch", level=mark)
        if drawing:
            keyed = [(line.colour, line.name) for line in lines]
            drawn.append(figure(caption, drawing, keyed if len(keyed) > 1 else ()))
    numbers = details("The same as numbers", curve_table(record))
    return section("curves", "Curves", f'<div class="grid">{"".join(drawn)}</div>', numbers)


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 300 points: means of neighbours."""
    if len(points) <= MAX_POINTS:
        return list(points)
    groups = -(-len(points) // MAX_POINTS)
    parts = [points[i : i + groups] for i in range(0, len(points), groups)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def curve_table(record: RunRecord) -> str:
    """The evaluations as numbers."""
    keys = [
        "train/loss",
        "val/loss",
        "val/top1",
        "val/nll",
        "val/ece",
        "optim/lr",
        "optim/grad_norm",
    ]
    keys = [key for key in keys if any(key in one for one in record.curves)]
    shown = record.curves
    if len(shown) > MAX_ROWS:
        evaluated = [one for one in shown if "val/loss" in one] or list(shown)
        shown = evaluated[:: -(-len(evaluated) // MAX_ROWS)]
    rows = []
    for one in shown:
        cells = [one.get(key) for key in keys]
        values = [number(v if isinstance(v, int | float) else None, 5) for v in cells]
        rows.append(
            [number(int(one.get("step", 0))), number(float(one.get("epoch", 0)), 2), *values]
        )
    return table(["step", "epoch", *keys], rows, sortable=True)

"""The curves of a run, drawn and as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitrail.figures.plot import Figure, curve, plot
from vitrail.report.frame import Drawing, PageSection, Table, number
from vitrail.report.run_record import RunRecord

MAX_POINTS = 300  # of a curve; beyond, neighbours are averaged
MAX_ROWS = 400  # of a table of numbers
NUMBERS = (
    "train/loss",
    "val/loss",
    "val/top1",
    "val/nll",
    "val/ece",
    "optim/lr",
    "optim/grad_norm",
)


def curves_section(record: RunRecord) -> PageSection:
    """Loss, top-1 and learning rate over epochs."""
    told = {"drawings": drawings_of(record), "numbers": curve_table(record)}
    return PageSection("curves", "Curves", told)


def drawings_of(record: RunRecord) -> list[Drawing]:
    """A drawing for each of them that the run has."""
    level = next(iter(record.baselines.items()), None)
    drawings = []
    for caption, keys, base in (
        ("Loss (nats)", ("train/loss", "val/loss"), None),
        ("Top-1", ("train/top1", "val/top1"), level),
        ("Learning rate", ("optim/lr",), None),
    ):
        lines = [curve(key, thin(record.curve(key)), i) for i, key in enumerate(keys)]
        lines = [line for line in lines if line.x]
        if not lines:
            continue
        legend = [(line.ink, line.name) for line in lines] if len(lines) > 1 else []
        lines = [replace(one, kind="faint") if legend and one.ink == 1 else one for one in lines]
        mark = (base[0].split(" (")[0], base[1]) if base else None
        figure = Figure("curves", caption, "epoch", caption, lines, level=mark, zero="cheap")
        drawings.append(Drawing(caption, plot(figure, is_bare=True), legend))
    return drawings


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 300 points: means of neighbours."""
    if len(points) <= MAX_POINTS:
        return list(points)
    groups = -(-len(points) // MAX_POINTS)
    parts = [points[i : i + groups] for i in range(0, len(points), groups)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def curve_table(record: RunRecord) -> Table:
    """The evaluations as numbers."""
    keys = [key for key in NUMBERS if any(key in one for one in record.curves)]
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
    return Table(["step", "epoch", *keys], rows, is_sortable=True)

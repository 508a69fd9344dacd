"""How a study gets on: a line a finished cell, on a terminal a bar with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vitrail.cli.display.output import Output, table
from vitrail.cli.display.progress import Line, ProgressLine, clock
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.studies.engine.cell import Cell
    from vitrail.studies.engine.row import Row
    from vitrail.studies.planned import Planned
    from vitrail.studies.run import StudyRequest

LITTLE = 0.5  # share of the time that goes into training


class StudyWatcher:
    """Lines for people; with --json nothing but the result is said. processes: cells at a time, for
    the time that is left. shown: the value that a finished cell is told with.
    """

    def __init__(
        self, output: Output, processes: int, shown: str, line: Line | None = None
    ) -> None:
        self.output, self.processes, self.shown = output, processes, shown
        self.bar: Line = line or ProgressLine(output)
        self.total, self.done, self.left_secs = 0, 0, 0.0
        self.running: dict[str, float] = {}
        self.at = time.monotonic()

    def cells(self, total: int, kept: int, secs: float) -> None:
        """How much there is to do."""
        self.total, self.done, self.left_secs = total, kept, secs
        before = f", {kept} of them finished before" if kept else ""
        self.bar.above(f"cells  {total}{before}; about {clock(secs / self.processes)} to go")

    def progress(self, cell: Cell, share: float) -> None:
        """Move the bar."""
        self.running[cell.title] = share
        if not self.bar.is_due:
            return
        left = max(0.0, self.left_secs / self.processes - (time.monotonic() - self.at))
        names = ", ".join(f"{name} {part:.0%}" for name, part in self.running.items())
        text = f"{self.done}/{self.total}  eta {clock(left)}  {names}"
        self.bar.draw(text, self.done + sum(self.running.values()), self.total)

    def row(self, cell: Cell, row: Row, done: int, left_secs: float) -> None:
        """A cell's result."""
        self.running.pop(cell.title, None)
        self.done, self.left_secs, self.at = done, left_secs, time.monotonic()
        found = row.values.get(self.shown)
        words = row.made.get("error", "done")
        says = words if found is None else f"{self.shown} {found:.4f}"
        seconds = row.cost.get("cell_secs", 0.0)
        self.bar.above(f"{done:>4}/{self.total}  {says}  {seconds:5.0f} s  {cell.title}")

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


def verdict_lines(verdict: Any, tables: Mapping[str, Any]) -> list[str]:
    """The tables and what follows from them."""
    lines: list[str] = []
    for title, rows in tables.items():
        lines += ["", title, *table([list(map(str, row)) for row in rows])]
    lines += ["", *([f"paper    {verdict.claim} ({verdict.source})"] if verdict.claim else [])]
    lines += [f"{'verdict' if not n else '':<8} {text}" for n, text in enumerate([verdict.answer])]
    lines += [f"{'evidence' if not n else '':<8} {text}" for n, text in enumerate(verdict.evidence)]
    return lines + [
        f"{'limits' if not n else '':<8} {text}" for n, text in enumerate(verdict.limits)
    ]


def plan_lines(planned: Planned, asked: StudyRequest) -> list[str]:
    """What is about to be done."""
    setup, share = planned.setup, planned.training_share
    lines = [
        f"data   {setup.name}: {count(setup.num_train, 'training image')}, "
        f"{count(setup.num_classes, 'class')}; models see "
        f"{setup.image_size[0]}x{setup.image_size[1]} px",
        f"plan   {count(len(planned.cells), 'cell')}, {count(len(setup.seeds), 'seed')}; the "
        "reference model sees "
        f"{count(setup.examples, 'image')} a cell; {asked.processes} at a time",
        *(f"data   {note}" for note in setup.notes),
    ]
    if share < LITTLE and not planned.study.is_alone:
        lines.append(
            f"note   only {share:.0%} of the time goes into training, the rest into opening data "
            "and judging: twice the --budget trains far more than twice as long"
        )
    return lines

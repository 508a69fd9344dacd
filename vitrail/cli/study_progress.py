"""How a study gets on: a line a finished cell, on a terminal a bar with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vitrail.cli.output import Output
from vitrail.spelling import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from vitrail.studies.engine.cell import Cell
    from vitrail.studies.engine.row import Row

REFRESH_SECS = 0.2


class ConsoleWatcher:
    """Lines for people. processes: cells at a time, for the time that is left. shown: the value
    that a finished cell is told with.
    """

    def __init__(self, output: Output, processes: int, shown: str) -> None:
        self.output, self.processes, self.shown = output, processes, shown
        self.bar: tuple[Progress, TaskID] | None = None
        self.total, self.done, self.left_secs = 0, 0, 0.0
        self.running: dict[str, float] = {}
        self.at = time.monotonic()
        self.refreshed = 0.0

    def cells(self, total: int, kept: int, secs: float) -> None:
        """How much there is to do."""
        from vitrail.cli.console import clock, progress_line

        self.total, self.done, self.left_secs = total, kept, secs
        before = f", {kept} of them finished before" if kept else ""
        self.line(f"cells  {total}{before}; about {clock(secs / self.processes)} to go")
        if self.output.is_terminal and not self.output.quiet:
            self.bar = progress_line()

    def progress(self, cell: Cell, share: float) -> None:
        """Move the bar."""
        from vitrail.cli.console import clock

        self.running[cell.title] = share
        now = time.monotonic()
        if self.bar is None or now - self.refreshed < REFRESH_SECS:
            return
        self.refreshed = now
        left = max(0.0, self.left_secs / self.processes - (now - self.at))
        bar, task = self.bar
        names = ", ".join(f"{name} {part:.0%}" for name, part in self.running.items())
        text = f"{self.done}/{self.total}  eta {clock(left)}  {names}"
        bar.update(
            task,
            total=self.total,
            completed=self.done + sum(self.running.values()),
            description=printable(text),
        )
        bar.refresh()

    def row(self, cell: Cell, row: Row, done: int, left_secs: float) -> None:
        """A cell's result."""
        self.running.pop(cell.title, None)
        self.done, self.left_secs, self.at = done, left_secs, time.monotonic()
        found = row.values.get(self.shown)
        words = row.made.get("error", "done")
        says = words if found is None else f"{self.shown} {found:.4f}"
        seconds = row.cost.get("cell_secs", 0.0)
        self.line(f"{done:>4}/{self.total}  {says}  {seconds:5.0f} s  {cell.title}")

    def line(self, text: str) -> None:
        """A line above the bar; silent with -q."""
        from vitrail.cli.console import line_above

        line_above(self.bar, self.output, text)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar[0].stop()
            self.bar = None


class JsonWatcher:
    """With --json nothing but the result is said on stdout."""

    def cells(self, total: int, kept: int, secs: float) -> None:
        """Nothing."""

    def progress(self, cell: Cell, share: float) -> None:
        """Nothing."""

    def row(self, cell: Cell, row: Row, done: int, left_secs: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def watcher_for(output: Output, processes: int, shown: str) -> ConsoleWatcher | JsonWatcher:
    """The one that fits the global options."""
    return JsonWatcher() if output.json else ConsoleWatcher(output, processes, shown)


def verdict_lines(verdict: Any, tables: Mapping[str, Any]) -> list[str]:
    """The tables and what follows from them."""
    from vitrail.cli.output import table

    lines: list[str] = []
    for title, rows in tables.items():
        lines += ["", title, *table([list(map(str, row)) for row in rows])]
    lines += ["", f"paper    {verdict.claim} ({verdict.source})"]
    lines += [f"{'verdict' if not n else '':<8} {text}" for n, text in enumerate([verdict.answer])]
    lines += [f"{'evidence' if not n else '':<8} {text}" for n, text in enumerate(verdict.evidence)]
    return lines + [
        f"{'limits' if not n else '':<8} {text}" for n, text in enumerate(verdict.limits)
    ]

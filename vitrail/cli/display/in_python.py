"""What training and studies say to somebody who started them from Python.

The lines of the command line on stdout; below them a line that moves, in a notebook or on a
terminal. Nothing where it was asked for silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vitrail.cli.display.console import ConsoleReporter
from vitrail.cli.display.notebook_line import NotebookLine
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import Counter, Line, ProgressLine
from vitrail.cli.display.study_progress import StudyWatcher
from vitrail.notebook import in_notebook
from vitrail.training.reporter import Reporter, SilentReporter


def line_of(output: Output) -> Line:
    """The line that moves, where there can be one."""
    return NotebookLine(output) if in_notebook() else ProgressLine(output)


def reporter_of(*, progress: bool) -> Reporter:
    """What hears of a run."""
    if not progress:
        return SilentReporter()
    output = Output()
    return ConsoleReporter(output, line_of(output))


@contextmanager
def counting(*, progress: bool) -> Iterator[Counter]:
    """Gives `tell(what, done, total)` for work that is counted."""
    output = Output(quiet=not progress)
    line = line_of(output) if progress else ProgressLine(output)
    try:
        yield Counter(output, line)
    finally:
        line.close()


def watcher_of(processes: int, shown: str, *, progress: bool) -> StudyWatcher:
    """What hears of a study. processes: cells at a time; shown: the value told of each."""
    output = Output(quiet=not progress)
    line = line_of(output) if progress else None
    return StudyWatcher(output, processes, shown, line)

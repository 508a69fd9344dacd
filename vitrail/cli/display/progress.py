"""How far long work is: a line on a terminal, now and then a note elsewhere, nothing with -q.

The line is rich's (what, bar, done of total, rate, time left), refreshed by hand: no thread beside
the training.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from vitrail.cli.display.fold import for_stream
from vitrail.cli.display.output import Output
from vitrail.spelling import printable

if TYPE_CHECKING:
    from rich.progress import Progress

REFRESH_SECS, NOTE_SECS = 0.2, 30.0
Tell = Callable[[int, int], None]
_drawn: list[ProgressLine] = []


class Line(Protocol):
    """A line that moves below others. bar: what it is drawn by, None where it is not drawn;
    is_live: whether it is drawn at all.
    """

    bar: Any
    is_live: bool

    @property
    def is_due(self) -> bool:
        """Whether it is to move now."""

    def draw(self, text: str, done: float, total: float | None) -> None:
        """Move it."""

    def above(self, text: str, style: str = "") -> None:
        """Say something above it."""

    def close(self) -> None:
        """Take it away."""


class ProgressLine:
    """One line that moves. is_live: whether it is drawn at all."""

    def __init__(self, output: Output, *, on_stderr: bool = False) -> None:
        self.output, self.on_stderr = output, on_stderr
        is_seen = sys.stderr.isatty() if on_stderr else True
        self.is_live = output.is_terminal and not output.quiet and is_seen
        self.bar: Progress | None = None
        self.refreshed = -REFRESH_SECS

    @property
    def is_due(self) -> bool:
        """Whether the line is to move: at most five times a second."""
        return self.is_live and time.monotonic() - self.refreshed >= REFRESH_SECS

    def draw(self, text: str, done: float, total: float | None) -> None:
        """Move the line."""
        self.refreshed = time.monotonic()
        if self.bar is None:
            self.bar = _started(self.on_stderr)
            _drawn.append(self)
        with suppress(OSError, ValueError):  # a terminal that has gone
            task = self.bar.task_ids[0]
            self.bar.update(task, total=total, completed=done, description=printable(text))
            self.bar.refresh()

    def above(self, text: str, style: str = "") -> None:
        """A line above it; on stdout where nothing is drawn. Silent with -q."""
        if self.output.quiet:
            return
        if self.bar:
            console = self.bar.console
            text = for_stream(printable(text), sys.stderr if self.on_stderr else sys.stdout)
            console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
        else:
            self.output.line(text)

    def close(self) -> None:
        """Take the line away."""
        if self.bar:
            with suppress(OSError, ValueError):
                self.bar.stop()
            self.bar = None
            _drawn.remove(self)


def close_lines() -> None:
    """Take every line away, so that what is said next stands alone."""
    for line in list(_drawn):
        line.close()


def _started(on_stderr: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False))
    console = Console(stderr=on_stderr)
    progress = Progress(*columns, console=console, auto_refresh=False, transient=True)
    progress.start()
    progress.add_task("starting", total=None)
    return progress


class Counter:
    """Work that is counted: a line, or in a pipe a note every 30 s."""

    def __init__(self, output: Output, line: Line) -> None:
        self.output, self.line, self.what, self.first = output, line, "", 0
        self.began = self.noted = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """`done` of `total`."""
        now = time.monotonic()
        if self.what not in ("", what):
            self.began, self.first = now, done
        self.what, secs = what, now - self.began
        if self.line.is_due:
            self.line.draw(count_text(what, done, total, secs, self.first), done, total)
        elif not self.line.is_live and now - self.noted >= NOTE_SECS and done < total:
            self.noted = now
            self.output.note(count_text(what, done, total, secs, self.first))


@contextmanager
def counted(output: Output) -> Iterator[Counter]:
    """Gives `tell(what, done, total)`."""
    line = ProgressLine(output)
    try:
        yield Counter(output, line)
    finally:
        line.close()


@contextmanager
def eta(output: Output, what: str) -> Iterator[Tell]:
    """Gives `tell(done, total)`."""
    with counted(output) as tell:
        yield lambda done, total: tell(what, done, total)


def count_text(what: str, done: int, total: int, secs: float, first: int = 0) -> str:
    """ "fog  1,200/75,000  40/s  eta 1:02". first: what was done when the `secs` began."""
    rate = (done - first) / secs if secs > 0 else 0.0
    pace = f"  {rate:,.0f}/s" if rate >= 1 else ""
    return f"{what}  {done:,}/{total:,}{pace}  eta {clock((total - done) / rate if rate else None)}"


def clock(secs: float | None) -> str:
    """Seconds as 0:41 or 1:02:03."""
    if secs is None:
        return "-"
    hours, rest = divmod(round(secs), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def progress_of(output: Output) -> Callable[[str, int, int | None], None]:
    """Tells on stderr how downloads go: `tell(what, done, total)` in bytes."""
    line = ProgressLine(output, on_stderr=True)
    told: dict[str, tuple[float, int]] = {}

    def tell(what: str, done: int, total: int | None) -> None:
        if what not in told:
            told[what] = (time.monotonic(), done)
            if not line.is_live:
                output.note(f"{what}{f' ({megabytes(total)})' if total else ''}")
        if line.is_live and done == total:
            line.draw(what, done, total)
            line.above(f"{what}  {megabytes(done)}")
            line.close()
        elif line.is_due:
            began, first = told[what]
            line.draw(bytes_text(what, done, total, time.monotonic() - began, first), done, total)

    return tell


def bytes_text(what: str, done: int, total: int | None, secs: float, first: int = 0) -> str:
    """ "downloading a.npz  123.4 MB of 330.3 MB  37 %  5.1 MB/s  eta 0:41"."""
    rate = (done - first) / secs if secs > 0 else 0.0
    pace = f"  {megabytes(rate)}/s" if rate else ""
    if not total:
        return f"{what}  {megabytes(done)}{pace}"
    left = clock((total - done) / rate if rate else None)
    share = f"{100 * done // total} %"
    return f"{what}  {megabytes(done)} of {megabytes(total)}  {share}{pace}  eta {left}"


def megabytes(count: float) -> str:
    """330.3 MB."""
    return f"{count / 1e6:,.1f} MB"

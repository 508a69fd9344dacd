"""What a download says while it runs: a line that rewrites itself on a terminal, or one note."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from vitrail.cli.output import Output
from vitrail.spelling import printable

if TYPE_CHECKING:
    from vitrail.checkpoints.hub.download import Progress

REFRESH_SECS = 0.2
WIDTH = 79


def progress_of(output: Output) -> Progress | None:
    """Tells on stderr how a download goes; None with -q."""
    if output.quiet:
        return None
    is_live = output.is_terminal and sys.stderr.isatty()
    said: set[str] = set()
    last = 0.0

    def tell(what: str, done: int, total: int | None) -> None:
        nonlocal last
        if not is_live:
            if what not in said:
                said.add(what)
                output.note(f"{what}{f' ({megabytes(total)})' if total else ''}")
            return
        is_end = done == total
        if is_end or time.monotonic() - last >= REFRESH_SECS:
            last = time.monotonic()
            line = printable(line_of(what, done, total))[:WIDTH]
            with suppress(OSError, ValueError):  # a terminal that has gone
                sys.stderr.write(f"\r{line:<{WIDTH}}" + ("\n" if is_end else ""))
                sys.stderr.flush()

    return tell


def line_of(what: str, done: int, total: int | None) -> str:
    """ "downloading a.npz  123.4 of 330.3 MB  37 %"."""
    if not total:
        return f"{what}  {megabytes(done)}"
    return f"{what}  {megabytes(done)} of {megabytes(total)}  {100 * done // total} %"


def megabytes(count: int) -> str:
    """330.3 MB."""
    return f"{count / 1e6:,.1f} MB"

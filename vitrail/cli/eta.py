"""How far long work is and when it will be done: a line on a terminal, now and then a note
elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vitrail.cli.output import Output

NOTE_SECS, REFRESH_SECS = 30.0, 0.2
Tell = Callable[[int, int], None]


@contextmanager
def eta(output: Output, what: str) -> Iterator[Tell]:
    """Gives `tell(done, total)`; silent with -q."""
    if output.quiet:
        yield lambda done, total: None
        return
    started = last = time.monotonic()
    bar = None
    if output.is_terminal:
        from vitrail.cli.console import progress_line

        bar, task = progress_line()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if bar is not None and now - last >= REFRESH_SECS:
            last = now
            text = eta_text(what, done, total, now - started)
            bar.update(task, total=total, completed=done, description=text)
            bar.refresh()
        elif bar is None and now - last >= NOTE_SECS and done < total:
            last = now
            output.note(eta_text(what, done, total, now - started))

    try:
        yield tell
    finally:
        if bar is not None:
            bar.stop()


def eta_text(what: str, done: int, total: int, secs: float) -> str:
    """ "fog 1,200/75,000  eta 1:02"."""
    from vitrail.cli.console import clock

    left = secs * (total - done) / done if done else None
    return f"{what}  {done:,}/{total:,}  eta {clock(left)}"

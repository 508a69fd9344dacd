"""The progress line of a notebook: one place in the output of a cell, rewritten, then emptied."""

from __future__ import annotations

import time

from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import REFRESH_SECS
from vitrail.notebook import Place, words


class NotebookLine:
    """As `ProgressLine`, in a notebook. Lines above it are printed."""

    is_live = True

    def __init__(self, output: Output) -> None:
        self.output, self.place, self.refreshed = output, Place(), -REFRESH_SECS
        self.bar: Place | None = None  # while it is drawn

    @property
    def is_due(self) -> bool:
        """Whether the line is to move: at most five times a second."""
        return time.monotonic() - self.refreshed >= REFRESH_SECS

    def draw(self, text: str, done: float, total: float | None) -> None:
        """Move the line."""
        self.refreshed, self.bar = time.monotonic(), self.place
        share = f'value="{done:g}" max="{total:g}"' if total else ""
        said = words(text)
        self.place.write(f'<progress {share} aria-label="{said}"></progress> <code>{said}</code>')

    def above(self, text: str, style: str = "") -> None:
        """A line of the output."""
        self.output.line(text)

    def close(self) -> None:
        """Take the line away."""
        if self.bar is not None:
            self.place.write("")
            self.bar = None

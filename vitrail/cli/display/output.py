"""Where a verb's words go: results to stdout, messages to stderr, one JSON document with --json.

No colour and no bars unless stdout is a terminal that wants them (--no-color, NO_COLOR, TERM=dumb).
A line stays one line whatever names are in it: line breaks and all that cannot be seen are written
out (`spelling.py`). On a terminal a long one is broken between words (`fold.py`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.cli.display.fold import for_stream
from vitrail.cli.display.streams import say_aside, say_result
from vitrail.errors import EnvironmentFault, VitrailError
from vitrail.spelling import as_utf8, command_text, printable

RED, YELLOW, DIM, RESET = "\x1b[1;31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"

LONG_WORD = re.compile(r"\S{5000,}")  # longer than any path


@dataclass(frozen=True)
class Output:
    """The global options, and the two streams behind them."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    words: tuple[str, ...] = ()  # of the command, as they were given
    began: float = field(default_factory=time.monotonic)  # when the command did, imports included

    @property
    def command(self) -> str:
        """The command that this is, to be typed again, whoever called us: a shell or Python."""
        return command_text(["vitrail", *self.words])

    @property
    def age_secs(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.began

    @property
    def is_terminal(self) -> bool:
        """Whether stdout is a terminal that shows colour and bars."""
        dull = self.no_color or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return sys.stdout.isatty() and not dull and not self.json

    def line(self, text: str = "") -> None:
        """A line of the result on stdout; nothing with --json, where `document` speaks."""
        if not self.json:
            say_result(for_stream(printable(text), sys.stdout))

    def note(self, text: str) -> None:
        """A message on stderr; silent with -q."""
        if not self.quiet:
            say_aside(self.paint(YELLOW, for_stream(printable(text), sys.stderr)))

    def document(self, value: object) -> None:
        """One JSON document, on one line of stdout."""
        text = json.dumps(plain(value), allow_nan=False)
        say_result(text)

    def result(self, record: object, lines: Sequence[str]) -> None:
        """What a verb found: `record` with --json, else `lines`."""
        if self.json:
            self.document(record)
        for line in () if self.json else lines:
            self.line(line)

    def error(self, fault: VitrailError) -> int:
        """Say what was wrong, on stderr (and as JSON on stdout with --json); its exit code."""
        text = f"{fault.message}" + (f"\n{fault.hint}" if fault.hint else "")
        text = LONG_WORD.sub(lambda found: f"{found[0][:80]}... ({len(found[0])} letters)", text)
        label = f"error {fault.code}:"
        text = for_stream(f"{label} {text}", sys.stderr)
        say_aside(self.paint(RED, label) + text.removeprefix(label))
        if self.verbose:
            trace = "".join(traceback.format_exception(fault)).splitlines()
            say_aside("\n".join(map(printable, trace)))
        if self.json:
            names = ("code", "message", "hint", "exit_code")
            record = {name: getattr(fault, name) for name in names}
            record |= {"details": fault.details} if fault.details else {}
            with suppress(EnvironmentFault):  # stdout is full: the code of `fault` still counts
                self.document(record)
        return fault.exit_code

    def paint(self, style: str, text: str) -> str:
        """`text` in a colour where stdout and stderr are terminals that want it."""
        return f"{style}{text}{RESET}" if self.is_terminal and sys.stderr.isatty() else text


def plain(value: object) -> Any:
    """`value` as JSON has it: paths are text, arrays lists, dataclasses objects, NaN null."""
    if isinstance(value, str):
        return as_utf8(value)
    if isinstance(value, int | bool) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {as_utf8(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | Set):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Path):
        return as_utf8(str(value))
    return plain(value.tolist())  # type: ignore[attr-defined]  # numpy arrays and scalars


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Rows of cells as aligned lines: the first `left` columns to the left, others to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

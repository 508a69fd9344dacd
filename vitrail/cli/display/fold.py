"""Long lines on a terminal, broken between words; a pipe gets every line as it is."""

from __future__ import annotations

import re
import shutil
import textwrap
from typing import TextIO

COMMAND = re.compile(r"\bvitrail [a-z][a-z-]+(?:(?! {2}| \|)[^;)\n])*")
LABEL = re.compile(r"(?:\S(?:\S| (?! ))*)? {2,}")  # a word or two, and the room behind them
KEPT = "\0"  # a space that no line is broken at: of a command, which is copied; before a unit
UNIT = re.compile(r"(?<=\d) (?=%|(?:MB|GB|M|px|s|ms|min|h)\b)")


def for_stream(text: str, stream: TextIO) -> str:
    """`text` as it is said on `stream`: folded to the width of a terminal."""
    return folded(text, shutil.get_terminal_size().columns) if stream.isatty() else text


def folded(text: str, width: int) -> str:
    """Lines of at most `width` columns, broken at spaces; what follows stands below the text behind
    a label ("next  ..."), or two columns in. A word or a command that is longer stays whole, on a
    line of its own.
    """
    return "\n".join(one for line in text.split("\n") for one in _lines(line, width))


def _lines(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    label = LABEL.match(line)
    indent = len(label[0]) if label and len(label[0]) <= width // 3 else 2
    kept = COMMAND.sub(lambda found: found[0].replace(" ", KEPT), UNIT.sub(KEPT, line))
    made = textwrap.wrap(
        kept,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
    return [one.replace(KEPT, " ") for one in made]

"""A strict reader of the few forms of YAML that the project's own files use.

Block mappings, block lists indented below their key, one-line scalars and `[a, b]`. Whatever else
YAML has (anchors, folded text, tabs, a value over several lines) is refused, and so are a key given
twice and a plain value with ": " in it, which YAML itself refuses.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

Lines = deque[tuple[int, str]]
KEY = re.compile(r"([A-Za-z][\w-]*):(?: +(.+))?")


def parse(text: str) -> Any:
    """The value of a document. Raises ValueError with the first line that is not understood."""
    lines = Lines(
        (len(line) - len(line.lstrip(" ")), line.strip(" "))
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    )
    value = _block(lines, 0)
    if lines:
        raise ValueError(f"indentation of {lines[0][1]!r}")
    return value


def _block(lines: Lines, indent: int) -> Any:
    return _list(lines, indent) if lines[0][1].startswith("- ") else _mapping(lines, indent)


def _list(lines: Lines, indent: int) -> list[Any]:
    found: list[Any] = []
    while lines and lines[0][0] == indent and lines[0][1].startswith("- "):
        text = lines.popleft()[1][2:]
        if KEY.fullmatch(text):
            lines.appendleft((indent + 2, text))
            found.append(_mapping(lines, indent + 2))
        else:
            found.append(_scalar(text))
    return found


def _mapping(lines: Lines, indent: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while lines and lines[0][0] == indent:
        text = lines.popleft()[1]
        match = KEY.fullmatch(text)
        if match is None or match[1] in found:
            raise ValueError(f"neither a key nor a new one: {text!r}")
        found[match[1]] = _scalar(match[2]) if match[2] else _nested(lines, indent)
    return found


def _nested(lines: Lines, indent: int) -> Any:
    """What stands below a key without a value; None where nothing does."""
    return _block(lines, lines[0][0]) if lines and lines[0][0] > indent else None


def _scalar(text: str) -> Any:
    """A string, a whole number, true or false, or a list of them in brackets."""
    text = re.sub(r" +#[^\"]*$", "", text)
    if re.fullmatch(r'"[^"\\]*"', text):
        return text[1:-1]
    if re.fullmatch(r"\[[^][]*\]", text):
        return [_scalar(part.strip()) for part in text[1:-1].split(",")]
    if re.match(r"[\[\]{}&*!|>%@`'\"?,-]", text) or re.search(r":( |$)|\t", text):
        raise ValueError(f"value not understood: {text!r}")
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text

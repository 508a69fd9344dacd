"""Markdown of reports, studies and model cards: text without meaning to it, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitrail.spelling import printable


def plain(value: object) -> str:
    """Text without meaning to Markdown or HTML, on one line."""
    line = " ".join(printable(str(value)).split())
    for mark in "\\`*_[]|#":
        line = line.replace(mark, "\\" + mark)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)

"""The frame of our HTML pages: one file that opens from disk and asks for nothing else.

Everything that comes from outside (names of classes and files, settings) passes through `text`. The
content policy allows exactly our style sheet and script, by their sha256, and pictures inside the
file; so there are no style attributes, and widths are attributes of SVG elements.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from vitrail.spelling import printable


def shown(value: object) -> str:
    """Text on one line, with what cannot be seen written out as everywhere (`spelling.py`)."""
    return printable(str(value))


def text(value: object) -> str:
    """HTML of `value` as plain text, safe in elements and in quoted attributes."""
    return html.escape(shown(value), quote=True)


def name(value: object) -> str:
    """HTML of a name; its direction does not touch the text around it."""
    return f"<bdi>{text(value)}</bdi>"


@dataclass(frozen=True)
class TableCell:
    """A table cell: HTML, the value it is sorted by, and whether it is a number."""

    html: str
    value: float | str | None = None
    is_number: bool = False


def number(value: float | None, digits: int = 3, *, more: str = "") -> TableCell:
    """A number to the right, with HTML `more` behind it; a dash for None."""
    if value is None:
        return TableCell("&ndash;", -1, is_number=True)
    shape = f"{value:,d}" if isinstance(value, int) else f"{value:.{digits}f}"
    return TableCell(shape + more, value, is_number=True)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[TableCell | str]], *, sortable: bool = False
) -> str:
    """A table; cells that are plain strings are HTML already. Wide tables scroll by themselves.

    Without names of columns there is no head.
    """
    body = [
        [cell if isinstance(cell, TableCell) else TableCell(cell) for cell in row] for row in rows
    ]
    right = [bool(body) and body[0][i].is_number for i in range(len(columns))]
    kinds = [' class="n"' if is_number else "" for is_number in right]
    heads = [
        f'<th{kind} scope="col">{text(column)}</th>'
        for column, kind in zip(columns, kinds, strict=True)
    ]
    head = f"<thead><tr>{''.join(heads)}</tr></thead>" if any(columns) else ""
    lines = ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in body]
    kind = ' class="sortable"' if sortable else ""
    tall = " tall" if len(body) > 24 else ""
    return (
        f'<div class="panel"><div class="scroll{tall}" tabindex="0"><table{kind}>{head}'
        f"<tbody>{''.join(lines)}</tbody></table></div></div>"
    )


def _cell(cell: TableCell) -> str:
    value = "" if cell.value is None else f' data-v="{text(cell.value)}"'
    kind = ' class="n"' if cell.is_number else ""
    return f"<td{kind}{value}>{cell.html}</td>"


def section(key: str, title: str, *parts: str, lead: str = "") -> str:
    """A section with a heading; `lead` and `parts` are HTML."""
    below = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{key}"><h2>{text(title)}</h2>{below}{"".join(parts)}</section>'


def details(summary: str, content: str) -> str:
    """HTML that is folded away."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def facts(pairs: Iterable[tuple[str, str, str]]) -> str:
    """A card of (name, HTML, HTML below in small print)."""
    boxes = []
    for key, value, small in pairs:
        below = f"<small>{small}</small>" if small else ""
        boxes.append(f"<div><dt>{text(key)}</dt><dd>{value}{below}</dd></div>" if value else "")
    return f'<dl class="facts">{"".join(boxes)}</dl>'


def page(title: str, head: str, sections: Sequence[str], foot: str) -> str:
    """The whole document; all but `title` are HTML. Sections come with a row of links to them."""
    found = [re.match(r'<section id="([\w-]+)"><h2>(.*?)</h2>', one) for one in sections]
    links = "".join(f'<a href="#{one[1]}">{one[2]}</a>' for one in found if one)
    style, script = _asset("page.css"), _asset("sort.js")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<header>{head}<nav aria-label="Sections">{links}</nav></header>\n'
        f"<main>{''.join(sections)}</main>\n<footer>{foot}</footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


@cache
def _asset(filename: str) -> str:
    return resources.files("vitrail.report").joinpath(filename).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

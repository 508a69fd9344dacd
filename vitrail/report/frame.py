"""The frame of our HTML pages: one file that opens from disk and asks for nothing else.

Views return sections of plain data; all markup lies in `templates/`. What comes from outside (names
of classes and files, settings) is escaped there by jinja2, and what cannot be seen is written out.
The content policy allows exactly our style sheet and script, by their sha256, and images inside
the file; so there are no style attributes, and widths are attributes of SVG elements.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vitrail import __version__
from vitrail.figures.palette import page_style
from vitrail.figures.svg import Svg
from vitrail.spelling import printable

DASH = "\u2013"


def shown(value: object) -> str:
    """Text on one line, with what cannot be seen written out as everywhere (`spelling.py`)."""
    return printable(str(value))


@dataclass(frozen=True)
class TableCell:
    """A table cell: its text, as what it is shown, and the value that it is sorted by. small: below
    it in small print; bar: beside it, from 0 to 1, of colour 1 to 3; link: where it leads.
    """

    text: str
    style: Literal["text", "name", "code", "number"] = "text"
    value: float | str | None = None
    small: str = ""
    bar: float | None = None
    colour: int = 1
    link: str = ""


def name(value: object) -> TableCell:
    """A name, which is also what it is sorted by; its direction does not touch its neighbours."""
    return TableCell(str(value), "name", str(value))


def number(
    value: float | None,
    digits: int = 3,
    *,
    small: str = "",
    bar: float | None = None,
    colour: int = 1,
) -> TableCell:
    """A number to the right; a dash for None."""
    if value is None:
        return TableCell(DASH, "number", -1)
    shape = f"{value:,d}" if isinstance(value, int) else f"{value:.{digits}f}"
    share = None if bar is None else max(0.0, min(1.0, bar))
    return TableCell(shape, "number", value, small, share, colour)


@dataclass(frozen=True)
class Table:
    """A table, which scrolls by itself where it is wide. A cell may be a string. Without names of
    columns there is no head.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell | str]]
    is_sortable: bool = False

    @property
    def lines(self) -> list[list[TableCell]]:
        """The rows, all of cells."""
        return [
            [cell if isinstance(cell, TableCell) else TableCell(cell) for cell in row]
            for row in self.rows
        ]

    @property
    def heads(self) -> list[tuple[str, bool]]:
        """(name, whether it stands to the right) of each column."""
        first = self.lines[0] if self.rows else [TableCell("")] * len(self.columns)
        styles = [cell.style == "number" for cell in first]
        return list(zip(self.columns, styles, strict=True))


@dataclass(frozen=True)
class Drawing:
    """A figure: its caption, its SVG, and a legend of (colour, name)."""

    caption: str
    svg: Svg
    keys: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class PageSection:
    """A part of a page: its anchor, its heading, what its template is told, a sentence below the
    heading. template: that of its key, or another one.
    """

    key: str
    title: str
    told: Mapping[str, Any]
    lead: str = ""
    template: str = ""

    @property
    def body(self) -> Markup:
        """What stands below the heading."""
        return render(f"{self.template or self.key}.html", self.told)


def page(title: str, head: PageSection, sections: Sequence[PageSection]) -> str:
    """The whole document, with a row of links to its sections."""
    style, script = Markup(page_style()) + _asset("page.css"), _asset("sort.js")  # noqa: S704
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    )
    told = {
        "title": title,
        "head": head,
        "sections": sections,
        "policy": Markup(policy),  # noqa: S704
        "style": style,
        "script": script,
        "version": __version__,
    }
    return render("page.html", told)


def render(template: str, told: Mapping[str, Any]) -> Markup:
    """HTML of a template; an undefined name in it is an error."""
    return Markup(_environment().get_template(template).render(told))  # noqa: S704


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vitrail.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalised,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lines"] = _lines
    environment.filters["unbroken"] = _unbroken
    return environment


def _finalised(value: object) -> object:
    """What a template shows: markup of ours as it is, everything else as visible text."""
    return value if hasattr(value, "__html__") else shown(value)


def _lines(content: str) -> Markup:
    """Text of several lines, escaped line by line."""
    return Markup("\n").join(shown(line) for line in content.splitlines())


def _unbroken(sentence: str) -> Markup:
    """A sentence in which no line ends between a number and %."""
    return escape(shown(sentence)).replace(" %", Markup("&nbsp;%"))


@cache
def _asset(filename: str) -> Markup:
    path = resources.files("vitrail.report").joinpath(filename)
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

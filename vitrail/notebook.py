"""What a notebook shows of a result: plain tables and images, and a place that is rewritten.

IPython is never imported: where it has not been loaded, nobody can see HTML. No colours are set, so
that the notebook's own, light or dark, hold; drawings know both (`figures/svg.py`).
"""

from __future__ import annotations

import sys
import webbrowser
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vitrail.spelling import printable

Row = Sequence[object]


def in_notebook() -> bool:
    """Whether a kernel runs us, whose front end shows HTML; a console of IPython does not."""
    found = sys.modules.get("IPython")
    shell = found.get_ipython() if found is not None else None
    return shell is not None and hasattr(shell, "kernel")


class Place:
    """A place in the output of a cell, written again and again."""

    def __init__(self) -> None:
        self.handle: Any = None

    def write(self, html: str) -> None:
        """Show `html` instead of what was there."""
        kit = sys.modules["IPython"].display
        if self.handle is None:
            self.handle = kit.display(kit.HTML(html), display_id=True)
        else:
            self.handle.update(kit.HTML(html))


def display(shown: object) -> None:
    """Show what has `_repr_html_` in the output of the cell."""
    sys.modules["IPython"].display.display(shown)


def show(shown: object, rows: Iterable[tuple[str, object]]) -> None:
    """Display `shown` in a notebook; elsewhere print what there is to know of it, (name, value) a
    line. No window is opened: there may be no screen.
    """
    if in_notebook():
        display(shown)
        return
    told = [(name, printable(str(value))) for name, value in rows]
    width = max((len(name) for name, _ in told), default=0)
    sys.stdout.writelines(f"{name:<{width}}  {value}".rstrip() + "\n" for name, value in told)
    sys.stdout.flush()


class Shown(ABC):
    """A result that can be told in a few rows: a table in a notebook, lines elsewhere."""

    @abstractmethod
    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""

    def show(self) -> None:
        """Show it in the notebook; elsewhere print what there is to know of it."""
        show(self, self.rows())

    def _repr_html_(self) -> str:
        return table(self.rows(), title=type(self).__name__)


def open_page(page: Path | str) -> None:
    """Open a page of this machine, a file or an address, in the browser, where there is one."""
    webbrowser.open(page if isinstance(page, str) else page.resolve().as_uri())


def table(rows: Sequence[Row], *, head: Row = (), title: str = "") -> str:
    """A table of texts; the first cell of each row names it."""
    caption = f"<caption>{words(title)}</caption>" if title else ""
    heads = "".join(f'<th scope="col">{words(one)}</th>' for one in head)
    body = "".join(
        f'<tr><th scope="row">{words(first)}</th>'
        + "".join(f"<td>{words(one)}</td>" for one in rest)
        + "</tr>"
        for first, *rest in rows
    )
    top = f"<thead><tr>{heads}</tr></thead>" if head else ""
    return f"<table>{caption}{top}<tbody>{body}</tbody></table>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{words(text)}</p>"


def words(text: object) -> str:
    """Text as HTML, on one line."""
    return escape(printable(str(text)))


def svg(content: str, alt: str) -> str:
    """A drawing inside the page; it knows light and dark by itself."""
    return image(content.encode(), "svg+xml", alt)


def image(content: bytes, kind: str, alt: str, width: int | None = None) -> str:
    """An image inside the page. kind: png or svg+xml."""
    size = f' width="{width}"' if width else ""
    address = f"data:image/{kind};base64,{b64encode(content).decode()}"
    return f'<img src="{address}" alt="{words(alt)}"{size}>'

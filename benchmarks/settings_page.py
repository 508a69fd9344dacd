"""The tables of settings in docs/cli.md, written from their declarations: `make docs-settings`.

Everything between two marks is replaced; a test compares the page with what this would write.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vitrail.cli.settings import Described, architectures, sections

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
BEGIN, END = "<!-- {}: written by make docs-settings -->\n", "<!-- end -->"
HEAD = "| option | value | built-in | meaning |\n|---|---|---|---|\n"


def tables(parts: Iterable[tuple[str, list[Described]]]) -> str:
    """A heading and a table for each part."""
    return "\n".join(f"### {title}\n\n{HEAD}{''.join(map(row, found))}" for title, found in parts)


def row(one: Described) -> str:
    """A setting as a line of a table."""
    names = ", ".join(f"`{name}`" for name in one.options)
    cells = (one.values, one.built_in, one.meaning)
    return f"| {names} | {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def page(text: str) -> str:
    """`text` of docs/cli.md with the tables as the code has them."""
    for name, parts in (("settings", sections()), ("architectures", architectures())):
        before, _, rest = text.partition(BEGIN.format(name))
        text = (
            before + BEGIN.format(name) + "\n" + tables(parts) + "\n" + END + rest.partition(END)[2]
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

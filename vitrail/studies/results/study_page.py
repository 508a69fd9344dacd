"""study.html: what a study found, on one page that opens from disk and asks for nothing.

The order is that of a reader in a hurry: answer, what the paper says, what we saw, what this scale
cannot show; then figures, tables, every cell, and how to repeat it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vitrail.figures.plot import Figure, plot
from vitrail.files import write_whole
from vitrail.report.frame import DASH, PageSection, Table, TableCell, page
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.results.plots import draw
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.tables import columns

FILENAME = "study.html"
FILES = {".csv": "CSV", ".parquet": "Parquet", ".jsonl": "JSON lines"}
_SAFE = re.compile(rb"[A-Za-z0-9._~/-]")
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?")


def write_page(
    folder: Path,
    title: str,
    outcome: Outcome,
    rows: Sequence[Row],
    facts: Sequence[tuple[str, str]],
    command: str,
) -> Path:
    """Draw the figures into `folder` and write study.html there; returns its path.

    facts: (name, value) of the card below the verdict. command: what makes the page again, several
    lines if need be. A row links to its run where that lies in `folder`.
    Raises EnvironmentFault VIT-506 where nothing can be written.
    """
    figures = [_figure(one, draw(one, folder)) for one in outcome.figures]
    sections = [_evidence(outcome.verdict, facts)]
    if figures:
        sections.append(PageSection("figures", "Figures", {"figures": figures}))
    if outcome.tables:
        own = [(title, _table(lines)) for title, lines in outcome.tables.items()]
        sections.append(PageSection("tables", "Tables", {"tables": own}))
    sections.append(_cells(rows, folder))
    if command:
        sections.append(PageSection("repeat", "To repeat it", {"command": command}))
    head = PageSection("study_head", "", {"title": title, "verdict": outcome.verdict})
    document = page(f"{title} - vitrail study", head, sections)
    return write_whole(folder / FILENAME, document, replace=True)


def _evidence(verdict: Verdict, facts: Sequence[tuple[str, str]]) -> PageSection:
    """What we saw beside what cannot be seen here, and the card of facts."""
    parts = [
        ("What we saw", "fine", verdict.evidence),
        ("What this scale cannot show", "open", verdict.limits),
    ]
    return PageSection(
        "evidence", "Evidence", {"parts": parts, "card": [(*fact, "") for fact in facts]}
    )


def _figure(figure: Figure, files: tuple[Path, Path]) -> dict[str, Any]:
    """What figures.html is told of a figure: its drawing, its note, its files, its numbers."""
    png, svg = files
    return {
        "svg": plot(figure),
        "note": figure.note,
        "links": [("PNG", address(png.name)), ("SVG", address(svg.name))],
        "numbers": _numbers(figure),
    }


def _numbers(figure: Figure) -> Table:
    """The points of a figure as a table, fits left out."""
    lines: list[list[TableCell | str]] = []
    for one in figure.series:
        if one.kind == "fit":
            continue
        for i, (x, y) in enumerate(zip(one.x, one.y, strict=True)):
            at = figure.x_labels[round(x)] if figure.x_labels else _value(x, is_measured=False)
            ends = (
                [_value(side[i]) for side in (one.low, one.high)]
                if one.low
                else [TableCell("")] * 2
            )
            lines.append([one.name, at, _value(y), *ends])
    return Table(["", figure.x_name, figure.y_name, "95 % from", "to"], lines)


def _table(lines: Sequence[Sequence[str]]) -> Table:
    """A table of the outcome; its first line is the head."""
    head, *body = lines
    styles: list[Literal["number", "text"]] = [
        "number" if _is_of_numbers(column, place) else "text"
        for place, column in enumerate(zip(*body, strict=True))
    ]
    return Table(head, [list(map(TableCell, line, styles)) for line in body])


def _is_of_numbers(column: Sequence[str], place: int) -> bool:
    """Whether a column stands to the right: all of it begins as a number, or is a dash. The first
    one never does: it has names, and one may be "1-D".
    """
    return place > 0 and all(cell in ("-", "") or _NUMBER.match(cell.strip()) for cell in column)


def _cells(rows: Sequence[Row], folder: Path) -> PageSection:
    """Every row, sortable, with a link to its run."""
    left_out = ("study", "arm", "run", "key")
    flat = [row.flat() for row in rows]
    names = [name for name in columns(flat) if name not in left_out]
    lines: list[list[TableCell | str]] = [
        [
            TableCell(row.arm, value=row.arm),
            *(_value(line.get(name), is_measured=name in row.values) for name in names),
            _run(row, folder),
        ]
        for row, line in zip(rows, flat, strict=True)
    ]
    files = [one for kind in FILES for one in sorted(folder.glob(f"*{kind}"))]
    links = [(FILES[one.suffix], address(one.name)) for one in files]
    table = Table(["arm", *names, "run"], lines, is_sortable=True)
    return PageSection("cells", "Every cell", {"number": len(rows), "links": links, "rows": table})


def _value(value: Axis | None, *, is_measured: bool = True) -> TableCell:
    """A number of four digits, to the right; what was measured below 1 as 0.6940, not 0.694."""
    if value is None or value != value:  # NaN: an end of an interval that there is not
        return TableCell(DASH, "number", -1)
    if isinstance(value, str):
        return TableCell(value, value=value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int):
        shown = f"{value:,d}"
    elif is_measured and 0.001 <= abs(value) < 1:
        shown = f"{value:.4f}"
    else:
        shown = f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return TableCell(shown, "number", value)


def _run(row: Row, folder: Path) -> TableCell:
    """A link to the report of a row's run, or to its directory; its key where it has none here."""
    place = Path(row.run)
    inside = bool(row.run) and not place.is_absolute() and ".." not in place.parts
    if not inside or not (folder / place).is_dir():
        return TableCell(row.key[:8], "code", row.key)
    report = place / "report.html"
    target = address(report.as_posix() if (folder / report).is_file() else f"{place.as_posix()}/")
    return TableCell(place.name, value=row.run, link=target)


def address(path: str) -> str:
    """A relative path as a link: never a scheme, bytes that mean something there as %nn."""
    parts = [bytes([byte]) for byte in os.fsencode(path)]
    return "./" + "".join(
        one.decode() if _SAFE.fullmatch(one) else f"%{one[0]:02X}" for one in parts
    )

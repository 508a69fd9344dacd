"""study.html: what a study found, on one page that opens from disk and asks for nothing.

The order is that of a reader in a hurry: answer, what the paper says, what we saw, what this scale
cannot show; then figures, tables, every cell, and how to repeat it. Figures are pictures inside the
file, on a white card in every colour scheme, because their colours are made for white.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path

from vitrail import __version__
from vitrail.files import write_whole
from vitrail.report import frame
from vitrail.report.frame import TableCell, details, section, table, text
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.results.plots import alt_text, draw
from vitrail.studies.results.result import Figure, Outcome, Verdict
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
    Raises EnvironmentFault VIT-520 without matplotlib, VIT-506 where nothing can be written.
    """
    drawn = [(one, draw(one, folder)) for one in outcome.figures]
    sections = [_evidence(outcome.verdict, facts)]
    if drawn:
        sections.append(section("figures", "Figures", *(_figure(*one) for one in drawn)))
    if outcome.tables:
        sections.append(section("tables", "Tables", *_tables(outcome)))
    sections.append(_cells(rows, folder))
    if command:
        sections.append(section("repeat", "To repeat it", f"<pre>{text_lines(command)}</pre>"))
    foot = f"Written by vitrail {text(__version__)}. This file needs no network and sends nothing."
    document = frame.page(f"{title} - vitrail study", _head(title, outcome.verdict), sections, foot)
    return write_whole(folder / FILENAME, document, replace=True)


def text_lines(content: str) -> str:
    """Text of several lines, escaped line by line."""
    return "\n".join(text(line) for line in content.splitlines())


def _head(title: str, verdict: Verdict) -> str:
    source = f"<cite>{text(verdict.source)}</cite>" if verdict.source else ""
    claim = (
        f"<blockquote><b>The paper says</b> {text(verdict.claim)} {source}</blockquote>"
        if verdict.claim
        else ""
    )
    return f'<h1>{text(title)}</h1><p class="answer">{text(verdict.answer)}</p>{claim}'


def _evidence(verdict: Verdict, facts: Sequence[tuple[str, str]]) -> str:
    """What we saw beside what cannot be seen here, and the card of facts."""
    parts = []
    for title, sentences, kind in (
        ("What we saw", verdict.evidence, "fine"),
        ("What this scale cannot show", verdict.limits, "open"),
    ):
        if sentences:
            lines = "".join(f'<li class="{kind}">{text(one)}</li>' for one in sentences)
            parts.append(f'<div><h3>{title}</h3><ul class="findings">{lines}</ul></div>')
    card = frame.facts((key, text(value), "") for key, value in facts) if facts else ""
    return section("evidence", "Evidence", f'<div class="two">{"".join(parts)}</div>', card)


def _figure(figure: Figure, files: tuple[Path, Path]) -> str:
    """A figure with its note and its files; its numbers are folded away."""
    png, svg = files
    data = base64.b64encode(svg.read_bytes()).decode()
    links = "".join(
        f' <a href="{address(path.name)}">{kind}</a>' for path, kind in ((png, "PNG"), (svg, "SVG"))
    )
    note = f"{text(figure.note)} " if figure.note else ""
    return (
        f'<figure class="drawn"><div class="card"><img alt="{text(alt_text(figure))}" '
        f'src="data:image/svg+xml;base64,{data}"></div>'
        f'<p class="note">{note}<span class="whole">{links}</span></p>'
        f"{details('The numbers', _numbers(figure))}</figure>"
    )


def _numbers(figure: Figure) -> str:
    """The points of a figure as a table, fits left out."""
    lines: list[list[TableCell | str]] = []
    for one in figure.series:
        if one.kind == "fit":
            continue
        for i, (x, y) in enumerate(zip(one.x, one.y, strict=True)):
            at = (
                text(figure.x_labels[round(x)]) if figure.x_labels else _value(x, is_measured=False)
            )
            ends = (
                [_value(side[i]) for side in (one.low, one.high)]
                if one.low
                else [TableCell("")] * 2
            )
            lines.append([text(one.name), at, _value(y), *ends])
    names = ["", figure.x_name, figure.y_name, "95 % from", "to"]
    return table(names, lines)


def _tables(outcome: Outcome) -> list[str]:
    parts = []
    for title, lines in outcome.tables.items():
        head, *body = lines
        right = [
            _is_of_numbers(column, place) for place, column in enumerate(zip(*body, strict=True))
        ]
        cells = [
            [TableCell(text(cell), is_number=kind) for cell, kind in zip(line, right, strict=True)]
            for line in body
        ]
        parts.append(f"<h3>{text(title)}</h3>{table(list(head), cells)}")
    return parts


def _is_of_numbers(column: Sequence[str], place: int) -> bool:
    """Whether a column stands to the right: all of it begins as a number, or is a dash. The first
    one never does: it has names, and one may be "1-D".
    """
    return place > 0 and all(cell in ("-", "") or _NUMBER.match(cell.strip()) for cell in column)


def _cells(rows: Sequence[Row], folder: Path) -> str:
    """Every row, sortable, with a link to its run."""
    left_out = ("study", "arm", "run", "key")
    flat = [row.flat() for row in rows]
    names = [name for name in columns(flat) if name not in left_out]
    lines: list[list[TableCell | str]] = [
        [
            TableCell(text(row.arm), row.arm),
            *(_value(line.get(name), is_measured=name in row.values) for name in names),
            _run(row, folder),
        ]
        for row, line in zip(rows, flat, strict=True)
    ]
    files = [one for kind in FILES for one in sorted(folder.glob(f"*{kind}"))]
    links = ", ".join(f'<a href="{address(one.name)}">{FILES[one.suffix]}</a>' for one in files)
    lead = f"{len(rows)} cell{'' if len(rows) == 1 else 's'}; each is one training run."
    if links:
        lead += f" The same as a file: {links}."
    shown = table(["arm", *names, "run"], lines, sortable=True)
    return section("cells", "Every cell", f'<div class="cells">{shown}</div>', lead=lead)


def _value(value: Axis | None, *, is_measured: bool = True) -> TableCell:
    """A number of four digits, to the right; what was measured below 1 as 0.6940, not 0.694."""
    if value is None or value != value:  # NaN: an end of an interval that there is not
        return TableCell("&ndash;", -1, is_number=True)
    if isinstance(value, str):
        return TableCell(text(value), value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int):
        shown = f"{value:,d}"
    elif is_measured and 0.001 <= abs(value) < 1:
        shown = f"{value:.4f}"
    else:
        shown = f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return TableCell(text(shown), value, is_number=True)


def _run(row: Row, folder: Path) -> TableCell:
    """A link to the report of a row's run, or to its directory; its key where it has none here."""
    place = Path(row.run)
    inside = bool(row.run) and not place.is_absolute() and ".." not in place.parts
    if not inside or not (folder / place).is_dir():
        return TableCell(f"<code>{text(row.key[:8])}</code>", row.key)
    report = place / "report.html"
    target = address(report.as_posix() if (folder / report).is_file() else f"{place.as_posix()}/")
    return TableCell(f'<a class="whole" href="{target}">{text(place.name)}</a>', row.run)


def address(path: str) -> str:
    """A relative path as a link: never a scheme, bytes that mean something there as %nn."""
    parts = [bytes([byte]) for byte in os.fsencode(path)]
    return "./" + "".join(
        one.decode() if _SAFE.fullmatch(one) else f"%{one[0]:02X}" for one in parts
    )

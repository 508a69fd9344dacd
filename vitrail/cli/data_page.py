"""data_report.html: what `vitrail data check` found, as one page that asks for nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #ccc; text-align: left; }
code { background: #f2f2f2; }
"""
MAX_ROWS = 1000
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def data_page(data: str, record: Mapping[str, Any]) -> str:
    """The page about `record`, what check found in `data`. Names are escaped: they are not ours."""
    problems = (
        "".join(f"<li>{cell(problem)}</li>" for problem in record["problems"]) or "<li>none</li>"
    )
    sections = [
        section(key, value)
        for key, value in record.items()
        if key not in ("data", "problems", "files")
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Data report: {cell(data)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>Data report: {cell(data)}</h1>\n<h2>Findings</h2>\n<ul>{problems}</ul>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def section(key: str, value: object) -> str:
    """One entry of the record under its own heading."""
    return f"<h2>{cell(key.replace('_', ' '))}</h2>\n{body(value)}"


def body(value: object) -> str:
    """A mapping or a list as a table, anything else as text."""
    if isinstance(value, Mapping):
        return rows([(key, item) for key, item in value.items()])
    if isinstance(value, list):
        return rows([item if isinstance(item, list) else [item] for item in value])
    return f"<p>{cell(value)}</p>"


def rows(values: Sequence[Sequence[object]]) -> str:
    """A table of at most 1,000 rows, with a note where there are more."""
    if not values:
        return "<p>none</p>"
    lines = [
        "<tr>" + "".join(f"<td>{cell(item)}</td>" for item in row) + "</tr>"
        for row in values[:MAX_ROWS]
    ]
    more = f"<p>and {len(values) - MAX_ROWS} more</p>" if len(values) > MAX_ROWS else ""
    return "<table>" + "".join(lines) + "</table>" + more


def cell(value: object) -> str:
    """Text of a value, escaped."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {item}" for key, item in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    return html.escape(str(value))

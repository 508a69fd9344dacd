"""study.md: what study.html says, as text with links to its figures, for a repository or paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vitrail.files import write_whole
from vitrail.markdown import plain, table
from vitrail.studies.results.result import Outcome


def write_markdown(
    folder: Path, title: str, outcome: Outcome, facts: Sequence[tuple[str, str]], command: str
) -> Path:
    """Write study.md into `folder`; returns its path. Raises EnvironmentFault VIT-506."""
    verdict = outcome.verdict
    parts = [
        f"# {title}",
        f"**{verdict.answer}**",
        f"The paper ({verdict.source}): {verdict.claim}" if verdict.claim else "",
        "## Evidence",
        "\n".join(f"- {one}" for one in verdict.evidence),
        *(f"![{figure.title}]({figure.key}.png)\n\n{figure.note}" for figure in outcome.figures),
        *(f"{title}\n\n{table(*headed(rows))}" for title, rows in outcome.tables.items()),
        "## What this cannot show",
        "\n".join(f"- {one}" for one in verdict.limits),
        "## How it was made",
        table(["", ""], cells(facts)),
        f"The same rows on another machine:\n\n    {command}",
        "Every cell with its figures and costs: [table.csv](table.csv).",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return write_whole(folder / "study.md", text, replace=True)


def headed(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The first row, and the others."""
    head, *body = cells(rows)
    return head, body


def cells(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """The rows as Markdown."""
    return [[plain(cell) for cell in row] for row in rows]

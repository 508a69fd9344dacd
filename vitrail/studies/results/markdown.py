"""study.md: what study.html says, as text with links to its figures, for a repository or paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrail.files import write_whole
from vitrail.spelling import printable
from vitrail.studies.results.result import Outcome


def write_markdown(
    folder: Path, title: str, outcome: Outcome, facts: Sequence[tuple[str, str]], command: str
) -> Path:
    """Write study.md into `folder`; returns its path. Raises EnvironmentFault VIT-506."""
    verdict = outcome.verdict
    parts = [
        f"# {title}",
        f"**{verdict.answer}**",
        f"The paper ({verdict.source}): {verdict.claim}",
        "## Evidence",
        "\n".join(f"- {one}" for one in verdict.evidence),
        *(f"![{figure.title}]({figure.key}.png)\n\n{figure.note}" for figure in outcome.figures),
        *(f"{heading}\n\n{grid(rows)}" for heading, rows in outcome.tables.items()),
        "## What this cannot show",
        "\n".join(f"- {one}" for one in verdict.limits),
        "## How it was made",
        grid([["", ""], *([name, value] for name, value in facts)]),
        f"The same rows on another machine:\n\n    {command}",
        "Every cell with its figures and costs: [table.csv](table.csv).",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return write_whole(folder / "study.md", text, replace=True)


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = [[printable(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

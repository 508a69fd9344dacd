"""What a checkpoint of another library does not say, as lines: the same under every verb."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrail.checkpoints.mapping.fact import Fact
    from vitrail.classifier import Classifier
    from vitrail.cli.display.output import Output


def tell(classifier: Classifier, output: Output) -> None:
    """On stderr: every number that the file itself does not say, and what was changed."""
    for word, text in rows_of(classifier):
        if word != "file":
            output.note(f"{word:<7}  {text}")


def rows_of(classifier: Classifier) -> list[tuple[str, str]]:
    """Every number with its source, and what was changed, as rows of two cells."""
    meta = classifier.meta
    return [*fact_rows(meta.facts), *(("note", note) for note in meta.notes)]


def fact_rows(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """A row for each that the file does not say, and one for each part of the file that says
    others.
    """
    parts: dict[str, list[str]] = {}
    rows = []
    for fact in facts:
        if fact.source == "file" and fact.field != "preprocess":
            parts.setdefault(fact.where, []).append(fact.text().removesuffix(f" ({fact.where})"))
        else:
            rows.append((fact.word, fact.text()))
    return [*(("file", f"{', '.join(said)} ({where})") for where, said in parts.items()), *rows]

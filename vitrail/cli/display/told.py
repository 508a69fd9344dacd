"""What a checkpoint of another library does not say, as lines: the same under every verb."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrail.classifier import Classifier
    from vitrail.cli.display.output import Output


def tell(classifier: Classifier, output: Output) -> None:
    """On stderr: every number that the file itself does not say, and what was changed."""
    for word, text in rows_of(classifier):
        if word != "file":
            output.note(f"{word:<7}  {text}")


def rows_of(classifier: Classifier) -> list[tuple[str, str]]:
    """Every number with its source, and what was changed, as rows of two cells."""
    from vitrail.checkpoints.mapping.fact import fact_rows

    meta = classifier.meta
    return [*fact_rows(meta.facts), *(("note", note) for note in meta.notes)]

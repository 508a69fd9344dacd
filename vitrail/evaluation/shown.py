"""An evaluation as a notebook shows it: figures with their intervals, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping

from vitrail.evaluation.predictions import Predictions
from vitrail.figures.diagrams import matrix
from vitrail.notebook import svg, table
from vitrail.spelling import count

MAX_CLASSES = 30  # of the matrix
FIGURES = ("top5", "nll", "brier", "ece", "f1_macro", "balanced_accuracy")


def one_line(found: Predictions) -> str:
    """Top-1 with its interval, and how many images."""
    low, high = found.interval
    return f"top-1 {found.top1:.4f} (95 % {low:.4f}-{high:.4f}) on {count(found.n, 'image')}"


def figure_rows(
    found: Predictions, intervals: Mapping[str, tuple[float, float]]
) -> list[tuple[str, str, str]]:
    """(name, value, 95 % interval as text, "" where there is none) of each figure."""
    document, ends = found.to_json(), {**intervals, "top1": found.interval}
    return [
        (name, f"{document[name]:.4f}", " to ".join(f"{end:.4f}" for end in ends.get(name, ())))
        for name in ("top1", *FIGURES)
    ]


def evaluation_html(found: Predictions, intervals: Mapping[str, tuple[float, float]]) -> str:
    """The figures and the matrix; intervals: of the figures that have one."""
    rows = figure_rows(found, intervals)
    shown = table(rows, head=("figure", "value", "95 % CI"), title=one_line(found))
    if found.is_multi_label or not 0 < len(found.classes) <= MAX_CLASSES:
        return shown
    counts, place = found.confusion, {name: i for i, name in enumerate(found.classes)}
    title = "Confusion matrix: rows are labels, columns predictions"
    drawing = matrix(
        found.classes,
        lambda label, predicted: int(counts[place[label], place[predicted]]),
        lambda label: int(counts[place[label]].sum()),
        title,
    )
    return shown + svg(drawing.file(), title)

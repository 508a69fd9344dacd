"""What a classifier gets wrong: a row a class, the confusion matrix, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.figures.diagrams import Bar, bars, matrix
from vitrail.figures.plot import Figure, curve, plot
from vitrail.figures.svg import Svg
from vitrail.report import verdict
from vitrail.report.frame import Drawing, PageSection, Table, TableCell, name, number
from vitrail.report.run_record import RunRecord, SplitRecord
from vitrail.spelling import count

MAX_CLASS_ROWS = 1000
MAX_CLASSES = 30  # of the confusion matrix


def classes_section(record: RunRecord, split: SplitRecord) -> PageSection:
    """A row a class; the weakest first where there are too many to show."""
    scores: Mapping[str, Mapping[str, float]] = split.metrics.get("classes") or {}
    trained = (record.data.get("class_counts") or {}).get("train", {})
    names = list(scores)
    if len(names) > MAX_CLASS_ROWS:
        names = sorted(names, key=lambda key: scores[key]["f1"])[:MAX_CLASS_ROWS]
    rows = []
    for key in names:
        one = scores[key]
        has = bool(one["n"])
        rows.append(
            [
                name(key),
                number(trained.get(key)),
                number(int(one["n"])),
                number(one["precision"]),
                number(one["recall"] if has else None),
                number(one["f1"] if has else None, bar=one["f1"]),
            ]
        )
    lead = (
        "Precision: share of images predicted as this class that are correct. "
        "Recall: share of images of this class that are predicted correctly."
    )
    if len(names) < len(scores):
        lead += f" The {len(names)} weakest of {count(len(scores), 'class')}; all of them are in "
        lead += f"eval/{split.name}/metrics.json."
    columns = ["class", "training images", f"{split.name} images", "precision", "recall", "F1"]
    table = Table(columns, rows, is_sortable=True)
    return PageSection("classes", "Classes", {"rows": table}, lead, "table")


def most_confused(cells: verdict.Counts, classes: Sequence[str]) -> list[str]:
    """The classes to show, in class order: all, or the 30 with most errors either way."""
    if len(classes) <= MAX_CLASSES:
        return list(classes)
    errors = dict.fromkeys(classes, 0)
    for (label, predicted), n in cells.items():
        if label != predicted:
            errors[label] = errors.get(label, 0) + n
            errors[predicted] = errors.get(predicted, 0) + n
    order = {name: i for i, name in enumerate(classes)}
    worst = sorted(errors, key=lambda name: (-errors[name], order.get(name, 0)))[:MAX_CLASSES]
    return sorted(worst, key=lambda name: order.get(name, 0))


def confusion_section(record: RunRecord, split: SplitRecord) -> PageSection:
    """The matrix and the most frequent errors."""
    classes = record.classes or sorted({a for a, _ in split.confusion})
    chosen = most_confused(split.confusion, classes)
    totals: dict[str, int] = {}
    for (label, _), n in split.confusion.items():
        totals[label] = totals.get(label, 0) + n
    rows = []
    for label, predicted, n in verdict.pairs(split.confusion):
        share = n / totals[label]
        shown = number(share, bar=share, colour=2)
        rows.append([name(label), name(predicted), number(n), shown])
    caption = "Rows: labels, columns: predictions"
    if len(chosen) < len(classes):
        caption += f"; the {len(chosen)} most confused of {count(len(classes), 'class')}"
    told = {
        "caption": caption,
        "is_beside": len(chosen) <= 12,
        "matrix": matrix(
            chosen,
            lambda label, predicted: split.confusion.get((label, predicted), 0),
            lambda label: totals.get(label, 0),
            "Confusion matrix: rows are labels, columns predictions",
        ),
        "errors": Table(["actual", "predicted", "count", "share of class"], rows, is_sortable=True),
    }
    lead = "Blue is right, orange is wrong; the stronger, the larger the share of the row."
    return PageSection("confusion", "Confusion", told, lead)


def calibration_section(split: SplitRecord) -> PageSection:
    """Whether 80 % sure means 80 % right."""
    bins = split.calibration["bins"]
    lead = f"Expected calibration error {split.figure('ece') or 0:.4f} (15 bins). "
    lead += "".join(f"{one} " for one in verdict.overconfidence(split))
    lead += f"Temperature {split.calibration.get('temperature', 1):g}."
    rows: list[list[TableCell | str]] = [
        [
            f"{one['low']:.3f} to {one['high']:.3f}",
            number(int(one["n"])),
            number(one["confidence"]),
            number(one["accuracy"]),
        ]
        for one in bins
    ]
    title = "Accuracy on the most confident predictions"
    kept = [curve("accuracy", verdict.accuracy_by_coverage(split.rows))]
    figure = Figure("kept", title, "share of images kept", "accuracy", kept, zero="cheap")
    drawings = [
        Drawing("Accuracy by confidence", reliability(bins), [(2, "mean confidence")]),
        Drawing("Images by confidence", confidences(bins)),
        Drawing(title, plot(figure, is_bare=True)),
    ]
    numbers = Table(["confidence", "images", "mean", "accuracy"], rows)
    told = {"drawings": drawings, "numbers": numbers}
    return PageSection("calibration", "Calibration", told, lead, "curves")


def reliability(bins: Sequence[Mapping[str, Any]]) -> Svg:
    """Accuracy of each bin of confidence as a bar; on the dashed line both are equal."""
    found = [
        Bar(
            one["low"],
            one["high"],
            one["accuracy"],
            f"{count(one['n'], 'image')}, confidence {one['confidence']:.3f}, "
            f"accuracy {one['accuracy']:.3f}",
            level=one["confidence"],
        )
        for one in bins
        if one["n"]
    ]
    title = "Reliability diagram"
    return bars(found, title=title, x_name="confidence", top=1, is_diagonal=True)


def confidences(bins: Sequence[Mapping[str, Any]]) -> Svg:
    """How many images have which confidence."""
    found = [
        Bar(
            one["low"],
            one["high"],
            one["n"],
            f"{one['low']:.3f} to {one['high']:.3f}: {count(one['n'], 'image')}",
        )
        for one in bins
    ]
    most = max((one.value for one in found), default=0) or 1
    return bars(found, title="Histogram of confidence", x_name="confidence", top=most * 1.05)

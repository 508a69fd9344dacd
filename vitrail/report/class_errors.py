"""What a classifier gets wrong: a row a class, the confusion matrix, and calibration."""

from __future__ import annotations

from collections.abc import Mapping

from vitrail.report import diagrams, verdict
from vitrail.report.figures import Line, plot
from vitrail.report.frame import Drawing, Section, Table, TableCell, name, number
from vitrail.report.run_record import RunRecord, SplitRecord

MAX_CLASS_ROWS = 1000


def classes_section(record: RunRecord, split: SplitRecord) -> Section:
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
        rows.append([
            name(key), number(trained.get(key)), number(int(one["n"])),
            number(one["precision"]), number(one["recall"] if has else None),
            number(one["f1"] if has else None, bar=one["f1"]),
        ])  # fmt: skip
    lead = (
        "Precision: the share of what is called so that is so. "
        "Recall: the share of what is so that is called so."
    )
    if len(names) < len(scores):
        lead += f" The {len(names)} weakest of {len(scores)} classes; all of them are in "
        lead += f"eval/{split.name}/metrics.json."
    columns = ["class", "training pictures", f"{split.name} pictures", "precision", "recall", "F1"]
    table = Table(columns, rows, is_sortable=True)
    return Section("classes", "Classes", {"rows": table}, lead, "table")


def confusion_section(record: RunRecord, split: SplitRecord) -> Section:
    """The matrix and the most frequent errors."""
    classes = record.classes or sorted({a for a, _ in split.confusion})
    chosen = diagrams.most_confused(split.confusion, classes)
    totals: dict[str, int] = {}
    for (label, _), n in split.confusion.items():
        totals[label] = totals.get(label, 0) + n
    rows = []
    for label, predicted, n in diagrams.pairs(split.confusion):
        share = n / totals[label]
        shown = number(share, bar=share, colour=2)
        rows.append([name(label), name(predicted), number(n), shown])
    caption = "Rows: labels, columns: predictions"
    if len(chosen) < len(classes):
        caption += f"; the {len(chosen)} most confused of {len(classes)} classes"
    told = {
        "caption": caption,
        "is_beside": len(chosen) <= 12,
        "matrix": diagrams.confusion_matrix(split.confusion, chosen, totals),
        "errors": Table(["label", "taken for", "times", "share of label"], rows, is_sortable=True),
    }
    lead = "Blue is right, orange is wrong; the stronger, the larger the share of the row."
    return Section("confusion", "Confusion", told, lead)


def calibration_section(split: SplitRecord) -> Section:
    """Whether 80 % sure means 80 % right."""
    bins = split.calibration["bins"]
    lead = f"Expected calibration error {split.figure('ece') or 0:.4f} (15 bins). "
    gap = verdict.overconfidence(split)
    if gap is not None:
        word = "above" if gap > 0 else "below"
        lead += f"Confidence lies {100 * abs(gap):.1f} points {word} accuracy on average. "
    lead += f"Temperature {split.calibration.get('temperature', 1):g}."
    rows: list[list[TableCell | str]] = [
        [f"{one['low']:.3f} to {one['high']:.3f}", number(int(one["n"])),
         number(one["confidence"]), number(one["accuracy"])]
        for one in bins
    ]  # fmt: skip
    kept = [Line("accuracy", verdict.accuracy_by_coverage(split.rows))]
    title = "Accuracy when the least sure are left out"
    by_bin = diagrams.reliability_diagram(bins)
    drawings = [
        Drawing("Accuracy by confidence", by_bin, [(2, "mean confidence")]),
        Drawing("Pictures by confidence", diagrams.confidence_histogram(bins)),
        Drawing(title, plot(kept, title=title, x_name="share of pictures kept")),
    ]
    numbers = Table(["confidence", "pictures", "mean", "accuracy"], rows)
    told = {"drawings": drawings, "numbers": numbers}
    return Section("calibration", "Calibration", told, lead, "curves")

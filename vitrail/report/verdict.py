"""What a report says in words: how good the model is, and what to mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vitrail.report.run_record import PredictionRow, RunRecord, SplitRecord
from vitrail.spelling import count, times

Counts = Mapping[tuple[str, str], int]  # of (label, prediction)
TITLES = {"train": "Training", "val": "Validation", "test": "Test"}


def percent(share: float, digits: int = 1) -> str:
    """`96.1 %`."""
    return f"{100 * share:.{digits}f} %"


def duration(seconds: object) -> str:
    """`38 s`, `4 min 12 s`, `2 h 05 min`."""
    if not isinstance(seconds, int | float) or seconds < 0:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def headline(split: SplitRecord) -> str:
    """`Test accuracy 96.1 % (95 % CI 92.2 to 98.1 %, n = 180)`."""
    low, high = split.interval
    return (
        f"{TITLES.get(split.name, split.name)} accuracy {percent(split.figure('top1') or 0)} "
        f"(95 % CI {100 * low:.1f} to {percent(high)}, n = {split.metrics.get('n', 0)})"
    )


def without_classes(record: RunRecord) -> tuple[str, str]:
    """What is said of a run that has judged no classes: how well it guesses hidden patches, or that
    there is nothing yet. A headline and a sentence.
    """
    found = (record.run.get("results") or {}).get("val") or {}
    is_classifier = record.run.get("objective") != "masked_patches"
    judged = record.curve("val/top1") if is_classifier else []
    if judged:
        epoch, best = max(judged, key=lambda point: point[1])
        return f"{percent(best)} so far", (
            f"The best validation accuracy of {count(len(judged), 'evaluation')}, at epoch "
            f"{epoch:.2f}. The run is {record.run.get('status', 'unknown')}."
        )
    if is_classifier or "top1" not in found:
        return "Not evaluated yet", f"The run is {record.run.get('status', 'unknown')}."
    beside = "".join(f"; {name} alone: {percent(best)}" for name, best in record.baselines.items())
    return (
        f"{percent(float(found['top1']))} of hidden patches",
        f"So often the mean colour of a hidden patch was predicted correctly, on "
        f"{count(found.get('n', 0), 'validation image')}{beside}. The model is an encoder "
        "without a head.",
    )


def beside_baselines(record: RunRecord, split: SplitRecord) -> str:
    """Whether the model beats the best baseline, as far as n images can tell."""
    found = record.baselines
    if not found:
        return "No baseline was measured."
    title, best = next(iter(found.items()))
    low, high = split.interval
    if best < low:
        return f"Better than the best baseline: {title}, {percent(best)}."
    if best <= high:
        return (
            f"Not clearly different from the best baseline: {title}, {percent(best)}, "
            "lies inside the interval."
        )
    return f"Worse than the best baseline: {title}, {percent(best)}."


def remarks(record: RunRecord, split: SplitRecord) -> list[str]:
    """What to mind, most important first: at most five sentences of plain text."""
    found = []
    status = record.run.get("status")
    if status in ("running", "stopped", "failed"):
        found.append(
            f"The run is {status}, not finished: the figures are those of its best moment."
        )
    if split.metrics.get("tta") == "flip":
        found.append("Each answer is the mean of image and mirror image (--tta flip).")
    found += _data_remarks(record, split)
    last, best = record.curve("val/loss"), record.run.get("best") or {}
    if len(last) >= 5:
        lowest = min(range(len(last)), key=lambda i: last[i][1])
        if lowest < len(last) // 2 and last[-1][1] > 1.15 * last[lowest][1]:
            found.append(
                f"Validation loss rose from {last[lowest][1]:.3f} (epoch {last[lowest][0]:.4g}) to "
                f"{last[-1][1]:.3f}: it overfits; more augmentation or fewer epochs may help."
            )
    if (
        best.get("epoch") is not None
        and last
        and float(best["epoch"]) >= last[-1][0]
        and len(last) > 2
    ):
        found.append("The best evaluation was the last one: a longer run may be better still.")
    found += _class_remarks(record, split)
    found += overconfidence(split)
    return found[:5]


def _data_remarks(record: RunRecord, split: SplitRecord) -> list[str]:
    """Leakage and possible label errors of the split, from audit.json."""
    found = []
    leak = (record.audit.get("leaks") or {}).get(split.name) or {}
    if leak.get("pictures"):
        found.append(
            f"{leak['pictures']} of {leak['n']} {split.name} images are also in train: these "
            "duplicates "
            "inflate the accuracy."
        )
    doubted = (record.audit.get("label_suspects") or {}).get(split.name) or {}
    if suspects := doubted.get("suspects"):
        found.append(f"{suspects} of {doubted['n']} {split.name} labels may be wrong.")
    return found


def _class_remarks(record: RunRecord, split: SplitRecord) -> list[str]:
    found = []
    classes = split.metrics.get("classes") or {}
    measured = {name: one for name, one in classes.items() if one.get("n")}
    if measured:
        worst = min(measured, key=lambda name: measured[name]["f1"])
        if measured[worst]["f1"] < 0.99:
            f1, n = measured[worst]["f1"], measured[worst]["n"]
            found.append(f"Weakest class: {worst} (F1 {f1:.2f}, n = {n}).")
    if confused := pairs(split.confusion, 1):
        label, predicted, n = confused[0]
        found.append(f"Most frequent error: {label} predicted as {predicted} ({times(n)}).")
    few = [
        name
        for name, n in (record.data.get("class_counts") or {}).get("train", {}).items()
        if n < 5
    ]
    if few:
        found.append(
            f"{count(len(few), 'class', 'has')} fewer than 5 training images: {', '.join(few[:5])}."
        )
    return found


def pairs(cells: Counts, num: int = 12) -> list[tuple[str, str, int]]:
    """The most frequent errors: (label, prediction, n)."""
    wrong = [(a, b, n) for (a, b), n in cells.items() if a != b]
    return sorted(wrong, key=lambda item: (-item[2], item[0], item[1]))[:num]


def overconfidence(split: SplitRecord) -> list[str]:
    """A sentence where the mean confidence lies outside the 95 % interval of the accuracy."""
    bins = split.calibration.get("bins") or []
    total = sum(one["n"] for one in bins)
    mean, accuracy = (
        sum(one["n"] * one[key] for one in bins) / max(total, 1)
        for key in ("confidence", "accuracy")
    )
    low, high = split.interval
    if not total or low <= mean <= high:
        return []
    word, points = "over" if mean > accuracy else "under", 100 * abs(mean - accuracy)
    return [f"The model is {word}confident by {points:.1f} percentage points."]


def worst_mistakes(rows: Sequence[PredictionRow], num: int) -> list[PredictionRow]:
    """The wrong predictions of greatest loss."""
    return sorted((row for row in rows if not row.is_right), key=lambda row: -row.loss)[:num]


def most_doubtful(rows: Sequence[PredictionRow], num: int) -> list[PredictionRow]:
    """The predictions of least confidence, right or wrong."""
    return sorted(rows, key=lambda row: row.p_predicted)[:num]


def accuracy_by_coverage(
    rows: Sequence[PredictionRow], num: int = 100
) -> list[tuple[float, float]]:
    """(share of images kept, accuracy on them), the most confident images first.

    Images of equal confidence are kept or left out together. (El-Yaniv and Wiener, JMLR 2010.)
    """
    ordered = sorted(rows, key=lambda row: -row.p_predicted)
    points, right = [], 0
    for i, row in enumerate(ordered):
        right += row.is_right
        is_last_of_equals = i + 1 == len(ordered) or ordered[i + 1].p_predicted < row.p_predicted
        if is_last_of_equals:
            points.append(((i + 1) / len(ordered), right / (i + 1)))
    kept = [point for point in points if point[0] >= 0.02] or points
    return kept[:: max(1, len(kept) // num)] + kept[-1:]

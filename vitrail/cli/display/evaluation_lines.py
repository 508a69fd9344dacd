"""An evaluation in words and tables for people, figure by figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.cli.display.output import table
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.evaluation.calibrate import Calibration
    from vitrail.evaluation.real_labels import Real
    from vitrail.evaluation.record import Evaluation
    from vitrail.evaluation.robustness.measure import Robustness

WORST = 5
KEPT = (0.8, 0.5)  # shares of the most confident images
FIGURES = (
    ("nll", "nll"),
    ("brier", "brier"),
    ("ece", "ece"),
    ("f1_macro", "macro-F1"),
    ("balanced_accuracy", "balanced accuracy"),
)
SEVERAL = (("f1_micro", "micro-F1"), ("mean_average_precision", "mean average precision"))


def evaluation_lines(
    found: Evaluation, what: str, *, skipped: int = 0, folder: Path | None = None
) -> list[str]:
    """The figures with their intervals, the most confident images, the worst classes."""
    left_out = f", {skipped} that cannot be read left out" if skipped else ""
    lines = [
        f"{what}  {count(found.n, 'image')}, every one{left_out}; {found.images_per_s:,.0f} "
        "images/s"
    ]
    low, high = found.interval
    lines.append(f"top-1  {found.top1:.4f}  (95 % {low:.4f}-{high:.4f})    top-5  {found.top5:.4f}")
    return [
        *lines,
        *figure_lines(found),
        *selective_lines(found),
        *class_lines(found),
        *([f"wrote {folder}"] if folder else []),
    ]


def figure_lines(found: Evaluation) -> list[str]:
    """A row a figure: value and interval."""
    document, intervals = found.to_json(), found.intervals
    low, high = found.ece_by_chance
    rows = [
        [title, f"{document[key]:.4f}", ends(intervals.get(key))]
        for key, title in (*FIGURES, *(SEVERAL if found.is_multi_label else ()))
    ]
    lines = table([["figure", "value", "95 %"], *rows])
    if found.temperature != 1:
        lines.append(f"logits are divided by the model's temperature {found.temperature:.4g}")
    word = "larger than" if found.ece > high else "within"
    lines.append(f"the calibration error is {word} sampling noise ({low:.4f}-{high:.4f})")
    return lines


def selective_lines(found: Evaluation) -> list[str]:
    """How wrong it is on the most confident images."""
    record = found.selective
    if not record:
        return []
    risks = {point["coverage"]: point["risk"] for point in record["curve"]}
    parts = [
        f"{100 * risks[share]:.1f} % on the most confident {100 * share:.0f} %" for share in KEPT
    ]
    return [
        f"error rate: {100 * risks[1.0]:.1f} % on all images, {', '.join(parts)}; "
        f"AURC {record['area']:.4f}"
    ]


def class_lines(found: Evaluation) -> list[str]:
    """The worst classes by F1, with the interval of their recall."""
    from vitrail.evaluation.uncertainty import class_intervals

    scores, intervals = found.class_scores, class_intervals(found)
    order = sorted(
        (i for i in range(len(found.classes)) if scores.n[i]), key=lambda i: scores.f1[i]
    )
    rows = [
        [found.classes[i], str(int(scores.n[i]))]
        + [f"{float(column[i]):.3f}" for column in (scores.precision, scores.recall, scores.f1)]
        + [ends(intervals[found.classes[i]]["recall"], 3)]
        for i in order[:WORST]
    ]
    head = ["class", "n", "precision", "recall", "f1", "recall, 95 %"]
    return ["worst classes", *table([head, *rows])]


def calibration_lines(found: Calibration, before: Evaluation, after: Evaluation) -> list[str]:
    """The fitted temperature, and what it changed where it was fitted and where it is judged."""
    from vitrail.evaluation.calibrate import FEW

    rows = [
        ["images", "", "n", "nll", "ece"],
        [found.split, "before", f"{found.n}", f"{found.nll[0]:.4f}", f"{found.ece[0]:.4f}"],
        ["", "after", "", f"{found.nll[1]:.4f}", f"{found.ece[1]:.4f}"],
        ["judged", "before", f"{before.n}", f"{before.nll:.4f}", f"{before.ece:.4f}"],
        ["", "after", "", f"{after.nll:.4f}", f"{after.ece:.4f}"],
    ]
    lines = [
        f"temperature  {found.before:.4g} -> {found.temperature:.4g}, fitted on "
        f"{found.n} {found.split} images; top-1 stays as it is",
        *table(rows, left=2),
    ]
    if found.n < FEW:
        lines.append(f"few images: with fewer than {FEW} the temperature is rough")
    return lines


def robustness_lines(found: Robustness, clean: float) -> list[str]:
    """Top-1 by corruption and severity."""
    levels = [str(level) for level in found.severities]
    rows = [
        [
            name,
            *(f"{found.accuracy(name, level):.4f}" for level in found.severities),
            f"{found.mean([name]):.4f}",
        ]
        for name in found.names
    ]
    low, high = found.interval
    return [
        f"top-1 on corrupted images, by severity (clean {clean:.4f})",
        *table([["corruption", *levels, "mean"], *rows]),
        f"mean corruption top-1  {found.mean():.4f}  (95 % {low:.4f}-{high:.4f})",
    ]


def real_lines(found: Real) -> list[str]:
    """Accuracy against ReaL labels."""
    low, high = found.to_json()["top1_interval"]
    return [
        f"ReaL top-1  {found.top1:.4f}  (95 % {low:.4f}-{high:.4f})    {count(found.n, 'image')}, "
        f"{found.without} without a label left out"
    ]


def ends(interval: Sequence[float] | None, digits: int = 4) -> str:
    """0.4123-0.5321, or a dash."""
    return "-" if interval is None else f"{interval[0]:.{digits}f}-{interval[1]:.{digits}f}"

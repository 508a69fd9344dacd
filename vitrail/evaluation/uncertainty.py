"""95 % intervals of every figure of an evaluation.

Shares of images (top-1, top-5, precision and recall of a class) have Wilson's interval. The
others are bootstrapped over the images (`bootstrap.py`): a replicate draws images, not scores,
so that all figures of a replicate are of the same images. Percentile intervals, but for ECE, to
which chance always adds: a model with perfect probabilities has an ECE above 0 on any finite set of
images. Its bootstrap interval is mirrored, and reaches down to 0 unless answers drawn from the
model's own probabilities rarely give an ECE as high (Brocker and Smith, Weather and Forecasting 22,
2007: consistency resampling). Measured coverage: docs/evaluation.md.

The figures are computed from counts instead of drawn rows: how often each image was drawn
weighs its part of every sum, which gives the same figures as repeating its row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.metrics import multi_label, selective, single_label
from vitrail.evaluation.metrics.bootstrap import (
    REPLICATES,
    Counts,
    Values,
    basic_interval,
    percentile_interval,
    replicated,
    uniform,
)
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.predictions import Predictions

Interval = tuple[float, float]
Figures = Callable[[Counts], dict[str, float]]
DECISIONS = 200_000_000  # of (replicate, image, class) with several labels; seconds
MIN_REPLICATES = 100


def num_replicates(evaluation: Predictions) -> int:
    """1,000; fewer where a replicate sorts through many classes of several labels an image."""
    if not evaluation.is_multi_label:
        return REPLICATES
    decisions = max(evaluation.labels.size, 1)
    return int(np.clip(DECISIONS // decisions, MIN_REPLICATES, REPLICATES))


def intervals(
    evaluation: Predictions, by_chance: Interval | None = None, *, seed: int = 0
) -> dict[str, Interval]:
    """The interval of each figure by its key of single_label.json; {} for fewer than two images.
    by_chance: `ece_by_chance`, where it is known.
    """
    n = evaluation.n
    if n < 2:
        return {}
    figures = figures_of(evaluation)
    values = replicated(figures, n, replicates=num_replicates(evaluation), seed=seed)
    whole = figures(np.ones(n, np.int64))
    found: dict[str, Interval] = {
        "top1": evaluation.interval,
        "top5": wilson(round(evaluation.top5 * n), n),
    }
    found |= {name: percentile_interval(drawn) for name, drawn in values.items() if name != "ece"}
    low, high = basic_interval(whole["ece"], values["ece"])
    is_more_than_chance = whole["ece"] > (by_chance or ece_by_chance(evaluation, seed=seed))[1]
    least = max(low, 0.0) if is_more_than_chance else 0.0
    found["ece"] = (least, min(max(high, whole["ece"]), 1.0))
    return found


def ece_by_chance(evaluation: Predictions, *, seed: int = 0) -> Interval:
    """The middle 95 % of the ECE that these probabilities would show if every one were true; (0, 0)
    for no images.
    """
    sure, _ = _decisions(evaluation)
    if not len(sure):
        return (0.0, 0.0)
    place = single_label.bin_places(sure)
    values = []
    for replicate in range(num_replicates(evaluation)):
        gap = (uniform(len(sure), replicate, seed=seed) < sure) - sure
        sums = np.bincount(place, gap, single_label.NUM_BINS)
        values.append(float(np.abs(sums).sum() / len(sure)))
    return percentile_interval(np.array(values))


def _decisions(evaluation: Predictions) -> tuple[Values, NDArray[np.bool_]]:
    """What calibration is about: confidence and truth of each prediction, or with several labels of
    each (image, class).
    """
    p = evaluation.probabilities
    if evaluation.is_multi_label:
        return p.astype(np.float64).ravel(), evaluation.labels.ravel() > 0
    return p.max(axis=1).astype(np.float64), evaluation.correct


def class_intervals(evaluation: Predictions) -> dict[str, dict[str, Interval]]:
    """Wilson's intervals of precision and recall of each class that has a prediction or a
    image.
    """
    scores = evaluation.class_scores
    hits = np.rint(scores.recall * scores.n).astype(int)
    return {
        name: {
            "precision": wilson(int(hits[i]), int(scores.predicted[i])),
            "recall": wilson(int(hits[i]), int(scores.n[i])),
        }
        for i, name in enumerate(evaluation.classes)
        if scores.n[i] + scores.predicted[i]
    }


def figures_of(evaluation: Predictions) -> Figures:
    """The bootstrapped figures of a replicate, from how often each image was drawn."""
    if evaluation.is_multi_label:
        return _of_several_labels(evaluation)
    return _of_one_label(evaluation)


def _of_one_label(evaluation: Predictions) -> Figures:
    p, labels = evaluation.probabilities, evaluation.labels.astype(np.int64)
    predicted, correct, size = evaluation.predicted, evaluation.correct, len(evaluation.classes)
    squares = evaluation.squares  # (n,)
    area, ece = _area_of(p.max(axis=1), correct), _ece_of(*_decisions(evaluation))

    def figures(counts: Counts) -> dict[str, float]:
        scores = single_label.class_scores(
            np.bincount(labels[correct], counts[correct], size).astype(np.int64),
            np.bincount(labels, counts, size).astype(np.int64),
            np.bincount(predicted, counts, size).astype(np.int64),
        )
        return {
            "nll": _mean(counts, evaluation.losses),
            "brier": _mean(counts, squares),
            "ece": ece(counts),
            "f1_macro": single_label.f1_macro(scores),
            "balanced_accuracy": single_label.balanced_accuracy(scores),
            "selective_area": area(counts),
        }

    return figures


def _of_several_labels(evaluation: Predictions) -> Figures:
    p, given = evaluation.probabilities, evaluation.labels > 0  # (n, C)
    said = p > multi_label.THRESHOLD
    squares = ((p.astype(np.float64) - given) ** 2).mean(axis=1)
    parts = [part.astype(np.float64) for part in (given & said, given, said)]  # (n, C) each
    area, ece = _area_of(p.max(axis=1), evaluation.correct), _ece_of(*_decisions(evaluation))
    precision = _mean_average_precision_of(p, given)
    classes = p.shape[1]

    def figures(counts: Counts) -> dict[str, float]:
        n = int(counts.sum())
        hits, positive, called = (
            np.rint(counts @ part).astype(np.int64) for part in parts
        )  # (C,) each
        scores = single_label.class_scores(hits, positive, called)
        return {
            "nll": _mean(counts, evaluation.losses),
            "brier": _mean(counts, squares),
            "ece": ece(np.repeat(counts, classes)),
            "f1_macro": single_label.f1_macro(scores),
            "balanced_accuracy": multi_label.balanced_rates(hits, positive, called, n),
            "f1_micro": float(2 * hits.sum() / max(int(positive.sum() + called.sum()), 1)),
            "mean_average_precision": precision(counts),
            "selective_area": area(counts),
        }

    return figures


def _mean(counts: Counts, values: Values) -> float:
    return float(counts @ values) / int(counts.sum())


def _ece_of(sure: Values, correct: NDArray[np.bool_]) -> Callable[[Counts], float]:
    place, gap = single_label.bin_places(sure), correct - sure  # (n,)

    def ece(counts: Counts) -> float:
        gaps = np.bincount(place, counts * gap, single_label.NUM_BINS)
        return float(np.abs(gaps).sum() / counts.sum())

    return ece


def _area_of(sure: NDArray[np.float32], correct: NDArray[np.bool_]) -> Callable[[Counts], float]:
    place, confidence = selective.descending(sure)

    def area(counts: Counts) -> float:
        size = np.bincount(place, counts, len(confidence)).astype(np.float64)
        wrong = np.bincount(place, counts * ~correct, len(confidence)).astype(np.float64)
        return selective.area(selective.Groups(confidence, size, wrong))

    return area


def _mean_average_precision_of(
    p: NDArray[np.float32], given: NDArray[np.bool_]
) -> Callable[[Counts], float]:
    order = np.argsort(-p, axis=0, kind="stable")  # (n, C): images of each class, best first
    positive = np.take_along_axis(given, order, axis=0)
    ranked = np.take_along_axis(p, order, axis=0)
    is_last = np.ones(p.shape, bool)  # of images with equal scores
    is_last[:-1] = ranked[1:] != ranked[:-1]

    def precision(counts: Counts) -> float:
        drawn = counts[order]  # (n, C)
        total, hits = np.cumsum(drawn, axis=0), np.cumsum(drawn * positive, axis=0)
        values = []
        for c in np.flatnonzero(hits[-1]):
            at, all_at = hits[is_last[:, c], c], total[is_last[:, c], c]
            gained = np.diff(at, prepend=0)
            values.append(float((gained * at / np.maximum(all_at, 1)).sum() / at[-1]))
        return float(np.mean(values)) if values else 0.0

    return precision

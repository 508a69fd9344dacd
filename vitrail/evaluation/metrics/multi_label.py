"""Figures of merit for several labels an image: scores (n, C) in [0, 1], labels (n, C) of 0 and 1.

A label counts as predicted where its score is above 0.5. Averages over classes leave out the
classes without a positive label (mean average precision) or with neither a label nor a prediction
(macro-F1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.metrics.single_label import ClassScores, Floats, Ints, class_scores

THRESHOLD = 0.5


def threshold_scores(scores: Floats, labels: Floats) -> ClassScores:
    """Precision, recall and F1 of each class at a threshold of 0.5."""
    given, said = labels > 0, scores > THRESHOLD
    return class_scores((given & said).sum(axis=0), given.sum(axis=0), said.sum(axis=0))


def f1_micro(scores: Floats, labels: Floats) -> float:
    """F1 over all (image, class) decisions together."""
    given, said = labels > 0, scores > THRESHOLD
    return float(2 * (given & said).sum() / max(int(given.sum() + said.sum()), 1))


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Sum over thresholds of (recall gained) * precision for one class, (n,) and (n,); equal scores
    are one threshold.

    No interpolation: the definition of scikit-learn's average_precision_score. 0 where nothing is
    positive.
    """
    if not positive.any():
        return 0.0
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    hits = np.cumsum(positive[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # the last of each group of equal scores
    precision = hits[last] / (np.flatnonzero(last) + 1)
    gained = np.diff(hits[last], prepend=0) / hits[-1]
    return float((precision * gained).sum())


def mean_average_precision(scores: Floats, labels: Floats) -> float:
    """Mean average precision of the classes that have a positive label."""
    positive = labels > 0
    values = [
        average_precision(scores[:, c], positive[:, c])
        for c in np.flatnonzero(positive.any(axis=0))
    ]
    return float(np.mean(values)) if values else 0.0


def hit_at_1(scores: Floats, labels: Floats) -> NDArray[np.bool_]:
    """Whether the best-scored class is one of the image's labels (big_vision's prec@1). (n,)"""
    best = scores.argmax(axis=1)
    return np.asarray(np.take_along_axis(labels, best[:, None], axis=1)[:, 0] > 0)


def hit_at_k(scores: Floats, labels: Floats, k: int) -> float:
    """Share of images that have a label among the k best scores."""
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((np.take_along_axis(labels, order, axis=1) > 0).any(axis=1).mean())


def balanced_accuracy(scores: Floats, labels: Floats) -> float:
    """Mean over classes that have both of (true positive rate + true negative rate) / 2."""
    given, said = labels > 0, scores > THRESHOLD
    return balanced_rates(
        (given & said).sum(axis=0), given.sum(axis=0), said.sum(axis=0), len(labels)
    )


def balanced_rates(hits: Ints, given: Ints, said: Ints, n: int) -> float:
    """As `balanced_accuracy`, from counts (C,) over `n` images: right calls, labels, calls."""
    both = (given > 0) & (given < n)
    if not both.any():
        return 0.0
    hits, given, said = hits[both], given[both], said[both]
    tpr = hits / given
    tnr = (n - given - said + hits) / (n - given)
    return float(((tpr + tnr) / 2).mean())


def cross_entropy(log_p: Floats, log_not_p: Floats, labels: Floats) -> NDArray[np.float64]:
    """Of each image the mean over classes of -(y log p + (1 - y) log(1 - p)), in nats. (n,)"""
    y = labels.astype(np.float64)
    return np.asarray(-(y * log_p + (1 - y) * log_not_p).mean(axis=1))

"""Figures of merit for one label an image, in float64 NumPy. n images, K classes, fractions from
0 to 1.

Rules, where authors differ:
- Ties: of equal scores the class with the lower index comes first, as `argmax` does; NaN never
  beats anything.
- A class that is never predicted has precision 0; one that has no image has recall 0; F1 of 0 and
  0 is 0.
- Averages over classes leave out what does not occur: macro-F1 averages the classes that have a
  image or a prediction, balanced accuracy those that have an image (both as scikit-learn does by
  default). Several labels an image: `multi_label.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

NUM_BINS = 15  # Guo et al., On calibration of modern neural networks (arXiv 1706.04599), section 5


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in (low, high]: how many, how sure on average, how often
    right.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Logarithms of the probabilities of `logits` (n, K), in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def ranks(scores: Floats, labels: Ints) -> Ints:
    """How many classes come before the label in `scores` (n, K), 0 being right. (n,)"""
    own = np.take_along_axis(scores, labels[:, None], axis=1)  # (n, 1)
    behind = (scores < own) | ((scores == own) & (np.arange(scores.shape[1]) >= labels[:, None]))
    return np.asarray(
        np.minimum(scores.shape[1] - behind.sum(axis=1), scores.shape[1] - 1), dtype=np.int64
    )


def top_k(scores: Floats, labels: Ints, k: int) -> float:
    """Share of images whose label is among the k best scores. 0 for no images; 1 for k >= K."""
    return float(np.mean(ranks(scores, labels) < k)) if len(labels) else 0.0


def nll(log_probabilities: Floats, labels: Ints) -> float:
    """Mean negative log-likelihood in nats; infinite where a label was given probability 0 (nothing
    is clipped).
    """
    chosen = np.take_along_axis(log_probabilities, labels[:, None], axis=1)
    return float(-chosen.astype(np.float64).mean()) if len(labels) else 0.0


def brier(probabilities: Floats, labels: Ints) -> float:
    """Mean over images of sum over classes (p - y)^2, 0 to 2 (Brier 1950, equation 2)."""
    if not len(labels):
        return 0.0
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    squares = np.einsum("nk,nk->n", probabilities, probabilities, dtype=np.float64)
    return float(np.mean(squares - 2 * own + 1))


def bin_places(confidence: Floats, num_bins: int = NUM_BINS) -> Ints:
    """The bin of each confidence, from 0. Same shape."""
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    place = np.searchsorted(edges, confidence.astype(np.float64), side="left") - 1
    return np.asarray(np.clip(place, 0, num_bins - 1), dtype=np.int64)


def reliability(
    confidence: Floats, correct: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> list[Bin]:
    """`num_bins` equal-width bins (low, high] over [0, 1] of `confidence` (n,) against `correct`
    (n,).

    An empty bin has confidence and accuracy 0. A confidence of exactly 0 belongs to the first bin.
    """
    values = confidence.astype(np.float64)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    place = bin_places(values, num_bins)
    counts = np.bincount(place, minlength=num_bins)
    sure = np.bincount(place, weights=values, minlength=num_bins)
    right = np.bincount(place, weights=correct.astype(np.float64), minlength=num_bins)
    return [
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(n),
            float(sure[i] / max(n, 1)),
            float(right[i] / max(n, 1)),
        )
        for i, n in enumerate(counts)
    ]


def ece(bins: list[Bin]) -> float:
    """Expected calibration error: mean |accuracy - confidence| over bins, weighted by n (1706.04599
    equation 3).
    """
    total = sum(one.n for one in bins)
    return sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / total if total else 0.0


def confusion(labels: Ints, predicted: Ints, num_classes: int) -> Ints:
    """Counts (K, K): row = label, column = prediction."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes * num_classes)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


@dataclass(frozen=True)
class ClassScores:
    """Of each class: images, predictions, precision, recall, F1. All (K,)."""

    n: Ints
    predicted: Ints
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def class_scores(hits: Ints, n: Ints, predicted: Ints) -> ClassScores:
    """Scores of each class from its right predictions `hits`, its images `n` and its predictions.
    All (K,).
    """
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(n, 1)
    f1 = 2 * hits / np.maximum(n + predicted, 1)
    return ClassScores(n, predicted, precision, recall, f1)


def f1_macro(scores: ClassScores) -> float:
    """Mean F1 of the classes that have an image or a prediction."""
    occurs = (scores.n + scores.predicted) > 0
    return float(scores.f1[occurs].mean()) if occurs.any() else 0.0


def balanced_accuracy(scores: ClassScores) -> float:
    """Mean recall of the classes that have an image."""
    occurs = scores.n > 0
    return float(scores.recall[occurs].mean()) if occurs.any() else 0.0

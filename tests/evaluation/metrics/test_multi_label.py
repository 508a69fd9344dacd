"""Metrics of several labels an image against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from vitrail.evaluation.metrics import multi_label
from vitrail.evaluation.metrics.single_label import f1_macro

N, C = 101, 5
Split = tuple[NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture
def split() -> Split:
    """Scores with ties (one decimal) and labels."""
    rng = np.random.default_rng(1)
    labels = (rng.random((N, C)) < 0.3).astype(float)
    return np.clip(rng.random((N, C)) + 0.2 * labels, 0, 1).round(1), labels


def test_f1_equals_scikit_learn(split: Split) -> None:
    scores, labels = split
    said = scores > 0.5
    assert multi_label.f1_micro(scores, labels) == pytest.approx(
        reference.f1_score(labels, said, average="micro"), abs=1e-12
    )
    assert f1_macro(multi_label.threshold_scores(scores, labels)) == pytest.approx(
        reference.f1_score(labels, said, average="macro"), abs=1e-12
    )


def test_mean_average_precision_equals_scikit_learn_with_ties(split: Split) -> None:
    scores, labels = split
    assert multi_label.mean_average_precision(scores, labels) == pytest.approx(
        reference.average_precision_score(labels, scores, average="macro"), abs=1e-9
    )


def test_classes_without_a_positive_are_left_out(split: Split) -> None:
    scores, labels = split
    labels = labels.copy()
    labels[:, 2] = 0
    rest = [0, 1, 3, 4]
    assert multi_label.mean_average_precision(scores, labels) == pytest.approx(
        reference.average_precision_score(labels[:, rest], scores[:, rest], average="macro"),
        abs=1e-9,
    )
    assert multi_label.average_precision(scores[:, 2], labels[:, 2] > 0) == 0


def test_hits_and_balanced_accuracy(split: Split) -> None:
    scores, labels = split
    scores = scores + np.arange(C) * 1e-3  # no ties
    hit = [labels[i, scores[i].argmax()] > 0 for i in range(N)]
    assert multi_label.hit_at_1(scores, labels).tolist() == hit
    assert multi_label.hit_at_k(scores, labels, 1) == np.mean(hit)
    assert multi_label.hit_at_k(scores, labels, C) == np.mean(labels.any(axis=1))
    expected = np.mean(
        [reference.balanced_accuracy_score(labels[:, c], scores[:, c] > 0.5) for c in range(C)]
    )
    assert multi_label.balanced_accuracy(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_cross_entropy_is_the_mean_over_classes() -> None:
    p = np.array([[0.25, 0.5]])
    loss = multi_label.cross_entropy(np.log(p), np.log(1 - p), np.array([[1.0, 0.0]]))
    assert loss == pytest.approx([-(np.log(0.25) + np.log(0.5)) / 2], abs=1e-12)


def test_nothing() -> None:
    none = np.zeros((0, 3))
    assert (
        multi_label.mean_average_precision(none, none) == multi_label.hit_at_k(none, none, 1) == 0
    )
    assert multi_label.f1_micro(none, none) == multi_label.balanced_accuracy(none, none) == 0

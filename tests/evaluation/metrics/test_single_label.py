"""Metrics of one label an image against scikit-learn, closed forms and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from vitrail.evaluation.metrics import single_label

N, K = 211, 7
Split = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def from_confusion(matrix: NDArray[np.int64]) -> single_label.ClassScores:
    """Scores of each class from counts (K, K) with the labels as rows."""
    return single_label.class_scores(np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0))


@pytest.fixture
def split() -> Split:
    """Logits (N, K), their probabilities and labels; class 5 has no image and class 6 is never
    predicted.
    """
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, K)) * 2
    logits[:, 6] -= 20
    labels = rng.choice([0, 1, 2, 3, 4, 6], size=N)
    logits[np.arange(N), labels] += 1.0
    return logits, np.exp(single_label.log_softmax(logits)), labels.astype(np.int64)


def test_log_softmax_of_huge_logits_is_finite() -> None:
    out = single_label.log_softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    assert out == pytest.approx(np.array([[0, -1e4], [-math.log(2), -math.log(2)]]), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_equals_scikit_learn(split: Split, k: int) -> None:
    _, p, labels = split
    expected = 1.0 if k == K else reference.top_k_accuracy_score(labels, p, k=k, labels=range(K))
    assert single_label.top_k(p, labels, k) == pytest.approx(expected, abs=1e-12)


def test_nll_equals_scikit_learn(split: Split) -> None:
    logits, p, labels = split
    assert single_label.nll(single_label.log_softmax(logits), labels) == pytest.approx(
        reference.log_loss(labels, p, labels=range(K)), abs=1e-9
    )


def test_brier_equals_scikit_learn(split: Split) -> None:
    _, p, labels = split
    expected = reference.brier_score_loss(labels, p, labels=range(K), scale_by_half=False)
    assert single_label.brier(p, labels) == pytest.approx(expected, abs=1e-9)


def test_confusion_and_class_scores_equal_scikit_learn(split: Split) -> None:
    _, p, labels = split
    predicted = p.argmax(axis=1)
    matrix = single_label.confusion(labels, predicted, K)
    assert np.array_equal(matrix, reference.confusion_matrix(labels, predicted, labels=range(K)))
    scores = from_confusion(matrix)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, predicted, labels=range(K), zero_division=0
    )
    for ours, theirs in [
        (scores.precision, precision),
        (scores.recall, recall),
        (scores.f1, f1),
        (scores.n, support),
    ]:
        assert np.abs(ours - theirs).max() <= 1e-12
    assert scores.n[5] == 0
    assert scores.predicted[6] == 0
    assert scores.precision[6] == 0


def test_averages_leave_out_what_does_not_occur(split: Split) -> None:
    _, p, labels = split
    kept = labels != 6  # class 6 now neither occurs nor is predicted
    labels, predicted = labels[kept], p.argmax(axis=1)[kept]
    scores = from_confusion(single_label.confusion(labels, predicted, K))
    f1 = reference.f1_score(labels, predicted, average="macro", zero_division=0)
    assert single_label.f1_macro(scores) == pytest.approx(f1, abs=1e-12)
    recalls = [np.mean(predicted[labels == c] == c) for c in range(5)]
    assert single_label.balanced_accuracy(scores) == pytest.approx(np.mean(recalls), abs=1e-12)


def test_ece_equals_a_plain_loop(split: Split) -> None:
    _, p, labels = split
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    bins = single_label.reliability(confidence, correct)
    assert len(bins) == 15
    assert sum(one.n for one in bins) == N
    assert single_label.ece(bins) == pytest.approx(expected, abs=1e-12)


def test_ece_of_hand_made_bins() -> None:
    bins = single_label.reliability(
        np.array([0.0, 0.5, 0.5, 1.0]), np.array([False, True, False, True]), num_bins=2
    )
    assert [(one.n, one.confidence, one.accuracy) for one in bins] == [
        (3, pytest.approx(1 / 3), pytest.approx(1 / 3)),
        (1, 1, 1),
    ]
    assert single_label.ece(bins) == pytest.approx(0, abs=1e-12)
    sure_and_wrong = single_label.reliability(np.ones(4), np.array([True, False, False, False]))
    assert single_label.ece(sure_and_wrong) == pytest.approx(0.75, abs=1e-12)


def test_ties_go_to_the_lower_class_and_nan_never_wins() -> None:
    equal = np.ones((3, 3))
    assert single_label.ranks(equal, np.array([0, 1, 2])).tolist() == [0, 1, 2]
    broken = np.array([[np.nan, 1.0], [np.nan, 1.0], [np.nan, np.nan]])
    assert single_label.ranks(broken, np.array([0, 1, 0])).tolist() == [1, 1, 1]


def test_no_images() -> None:
    p, labels = np.zeros((0, 3)), np.zeros(0, np.int64)
    scores = from_confusion(single_label.confusion(labels, labels, 3))
    assert (
        single_label.top_k(p, labels, 1)
        == single_label.nll(p, labels)
        == single_label.brier(p, labels)
        == 0
    )
    assert single_label.ece(single_label.reliability(np.zeros(0), np.zeros(0, bool))) == 0
    assert single_label.f1_macro(scores) == single_label.balanced_accuracy(scores) == 0


@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_laws(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), size=n)
    labels = rng.integers(k, size=n)
    shares = [single_label.top_k(p, labels, i) for i in range(1, k + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert shares[0] == np.mean(p.argmax(axis=1) == labels)
    assert 0 <= single_label.brier(p, labels) <= 2
    order = rng.permutation(n)
    assert single_label.nll(np.log(p[order]), labels[order]) == pytest.approx(
        single_label.nll(np.log(p), labels)
    )

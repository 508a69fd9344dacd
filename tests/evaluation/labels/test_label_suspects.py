"""Confident learning: by hand, and on planted wrong labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.data.sources.open_data import open_data
from vitrail.data.sources.source import ArraySource
from vitrail.evaluation.labels.label_suspects import (
    MIN_TOP1,
    OWN_PREDICTIONS,
    Suspects,
    rank,
    suspects,
    write_suspects,
)
from vitrail.evaluation.labels.loo_ridge import gradients, left_out


def test_the_confident_joint_of_a_hand_made_case() -> None:
    p = np.array(
        [
            [0.9, 0.1, 0.0],  # 0, counts for 0
            [0.6, 0.3, 0.1],  # 0, below the threshold of 0: counts for none
            [0.2, 0.8, 0.0],  # 0, counts for 1: suspect
            [0.1, 0.7, 0.2],  # 1, counts for 1
            [0.8, 0.2, 0.0],  # 1, counts for 0: suspect
            [0.3, 0.6, 0.1],  # 1, counts for 1
        ]
    )
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = rank(p, labels)
    assert found.thresholds[:2] == pytest.approx([1.7 / 3, 0.5])
    assert np.isnan(found.thresholds[2])
    assert found.suggested.tolist() == [0, 0, 1, 1, 0, 1]
    assert found.joint.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert found.margin == pytest.approx([0.8, 0.3, -0.6, 0.5, -0.6, 0.3])
    assert found.order.tolist() == [2, 4]


def test_a_class_with_a_low_threshold_is_suggested_though_it_is_not_the_best() -> None:
    # class 1 is always given little: its threshold is low, 0.4 passes it while 0.55 fails 0.9's
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.7, 0.3], [0.6, 0.4]])
    found = rank(p, np.array([0, 0, 0, 1, 1]))
    assert found.thresholds == pytest.approx([2.35 / 3, 0.35])
    assert found.suggested.tolist() == [0, 0, 1, -1, 1]
    assert found.order.tolist() == [2]
    assert found.margin[2] == pytest.approx(0.1)  # of its own class and the suggested one


def planted(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> float:
    """Precision at recall 0.6 of 5 % wrong labels."""
    rng = np.random.default_rng(seed)
    count = len(labels)
    is_wrong = np.zeros(count, bool)
    is_wrong[rng.permutation(count)[: round(0.05 * count)]] = True
    size = int(labels.max()) + 1
    given = np.where(is_wrong, (labels + rng.integers(1, size, count)) % size, labels)
    order = rank(left_out(gradients(images), given, size).probabilities, given).order
    hits = np.cumsum(is_wrong[order])
    wanted = int(np.ceil(0.6 * is_wrong.sum()))
    assert hits[-1] >= wanted
    looked = int(np.searchsorted(hits, wanted)) + 1
    return wanted / looked


def test_planted_wrong_labels_of_digits() -> None:
    parts = [
        one for one in open_data("builtin:digits").parts().values() if isinstance(one, ArraySource)
    ]
    images = np.concatenate([one.images for one in parts])
    assert planted(images, np.concatenate([one.labels for one in parts]), 0) >= 0.95


@pytest.mark.data
@pytest.mark.slow
def test_planted_wrong_labels_of_fashion(shared_data: Path) -> None:
    train = open_data(shared_data / "fashion_mnist").train
    assert isinstance(train, ArraySource)
    for seed in range(3):
        assert planted(train.images[:5000], train.labels[:5000], seed) >= 0.6


def source(labels: list[int]) -> ArraySource:
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    return ArraySource("x", ("a", "b"), np.array(labels), images, "test-images")


def test_suspects_are_named_and_written(tmp_path: Path) -> None:
    made = source([0, 0, 0, 1, 1, 1, 1, 0])
    p = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 4 + [[0.05, 0.95]])
    found = suspects(p, [("test", made, i) for i in range(8)], OWN_PREDICTIONS)
    assert found.top1 == 0.875
    assert [(one.source, one.label, one.suggested, one.p_suggested) for one in found.found] == [
        ("test-images:7", "a", "b", 0.95)
    ]
    rows = list(csv.reader(write_suspects(found.found, tmp_path / "s.csv").read_text().split("\n")))
    assert rows[0] == ["split", "source", "label", "suggested", "p_label", "p_suggested"]
    assert rows[1] == ["test", "test-images:7", "a", "b", "0.05", "0.95"]
    assert found.to_json(0)["suspects"] == 1
    assert found.to_json(0)["found"] == []


def test_slight_doubts_are_not_listed() -> None:
    made = source([0, 0, 0, 1, 1, 1, 1, 0])
    p = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 4 + [[0.21, 0.79]])
    places = [("test", made, i) for i in range(8)]
    assert rank(p, made.labels).order.tolist() == []
    p[7] = [0.15, 0.85]
    assert rank(p, made.labels).order.tolist() == [7]
    assert len(suspects(p, places, OWN_PREDICTIONS).found) == 1
    p[3:7], p[7] = [0.3, 0.7], [0.25, 0.75]
    assert rank(p, made.labels).order.tolist() == [7]
    assert suspects(p, places, OWN_PREDICTIONS).found == ()


def test_a_poor_model_doubts_nothing() -> None:
    made = source([0, 1, 0, 1, 0, 1, 0, 1])
    p = np.array([[0.9, 0.1]] * 8)
    found = suspects(p, [("val", made, i) for i in range(8)], OWN_PREDICTIONS)
    assert found.top1 < MIN_TOP1
    assert found.found == ()
    assert "50 % of the labels" in found.why_not
    assert suspects(np.zeros((0, 2)), [], OWN_PREDICTIONS) == Suspects(
        (), 0, 0.0, OWN_PREDICTIONS, suspects(np.zeros((0, 2)), [], OWN_PREDICTIONS).why_not
    )

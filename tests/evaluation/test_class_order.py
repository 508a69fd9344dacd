"""Classes of data and model matched by name: right, and not by a search for each of them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from vitrail.data.sources.arrays import open_npz
from vitrail.data.sources.source import ArraySource
from vitrail.errors import ModelError
from vitrail.evaluation.on_data import relabelled
from vitrail.training.plan.check_settings import class_columns

MANY = 21_841  # classes of ImageNet-21k
MOST_SECS = 2.0  # of a processor; one search for each class takes 5 to 20


def names(count: int) -> tuple[str, ...]:
    return tuple(f"n{number:08d}" for number in range(count))


def source_of(classes: tuple[str, ...]) -> ArraySource:
    labels = np.array([0, 2, len(classes) - 1])
    return ArraySource("a", classes, labels, np.zeros((3, 2, 2, 1), np.uint8), "y")


def test_labels_follow_their_names() -> None:
    known = names(MANY)
    started = time.process_time()
    found = relabelled(source_of(known[::-1]), known, "the model")
    columns = class_columns("the teacher", known, MANY, known[::-1])
    assert time.process_time() - started < MOST_SECS
    assert found.labels.tolist() == [MANY - 1, MANY - 3, 0]
    assert found.classes == known
    assert columns == list(range(MANY))[::-1]


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ModelError, match="n00000003") as caught:
        relabelled(source_of(names(4)), names(3), "the model")
    assert caught.value.code == "VIT-403"


def test_classes_without_images_are_told_quickly(tmp_path: Path) -> None:
    labels = np.arange(0, MANY, 2)
    images = np.full((len(labels), 2, 2), 9, np.uint8)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=labels, classes=np.array(names(MANY)))
    started = time.process_time()
    found = open_npz(str(tmp_path / "d.npz"))
    assert time.process_time() - started < MOST_SECS
    assert len(found.classes) == len(labels)
    assert "n00000001" in found.notes[0]

"""ReaL accuracy on made labels, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.data.sources.source import FileSource
from vitrail.errors import DataError, UsageError
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.real_labels import (
    check_pictures,
    class_numbers,
    read_real,
    real_accuracy,
)
from vitrail.evaluation.record import Evaluation

WNIDS = [f"n{7 * i + 1_440_764:08d}" for i in range(1000)]


def predictions(best: list[int], names: list[str], classes: list[str] = WNIDS) -> Evaluation:
    p = np.zeros((len(best), 1000), np.float32)
    p[np.arange(len(best)), best] = 1
    zeros = np.zeros(len(best))
    return Evaluation(tuple(classes), p, zeros.astype(np.int64), zeros, tuple(names))


def name(number: int) -> str:
    return f"n01440764/ILSVRC2012_val_{number:08d}.JPEG"


LABELS = [[3], [3, 7], [], [9], [], [0]]


def test_a_prediction_is_right_if_it_is_one_of_the_labels() -> None:
    found = real_accuracy(predictions([7, 3, 5, 8, 0], [name(n) for n in (2, 1, 3, 4, 6)]), LABELS)
    assert (found.n, found.correct, found.without) == (4, 3, 1)
    expected = {"n": 4, "without_label": 1, "top1": 0.75, "top1_interval": list(wilson(3, 4))}
    assert found.to_json() == expected


def test_the_authors_formula() -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 1000, rng.integers(0, 3)).tolist() for _ in range(211)]
    best = [row[0] if row and rng.random() < 0.6 else int(rng.integers(1000)) for row in labels]
    found = real_accuracy(predictions(best, [name(i + 1) for i in range(211)]), labels)
    assert found.top1 == np.mean([p in labels[i] for i, p in enumerate(best) if labels[i]])


def test_classes_in_another_order_are_found_by_their_wordnet_ids() -> None:
    order = np.random.default_rng(0).permutation(1000)
    shuffled = [WNIDS[i] for i in order]
    assert np.array_equal(class_numbers(shuffled), order)
    best = [shuffled.index(WNIDS[3])]
    assert real_accuracy(predictions(best, [name(1)], shuffled), LABELS).correct == 1
    words = [f"class {i}" for i in range(1000)][::-1]
    assert np.array_equal(class_numbers(words), np.arange(1000))


def test_other_classes_and_images_are_refused() -> None:
    with pytest.raises(UsageError, match="1000 classes, got 2") as usage:
        class_numbers(["cat", "dog"])
    assert usage.value.code == "VIT-284"
    for bad in ("photos/cat.jpg", name(7), name(0)):
        with pytest.raises(DataError, match=Path(bad).stem) as data:
            real_accuracy(predictions([0, 0], [name(1), bad]), LABELS)
        assert data.value.code == "VIT-365"


def test_images_are_checked_before_anything_is_computed() -> None:
    def source(paths: tuple[str, ...], classes: tuple[str, ...]) -> FileSource:
        return FileSource("imagenet", classes, np.zeros(len(paths), np.int64), "", paths)

    check_pictures(source((name(1), name(6)), tuple(WNIDS)), LABELS)
    with pytest.raises(DataError, match="ILSVRC2012_val_00000007"):
        check_pictures(source((name(1), name(7)), tuple(WNIDS)), LABELS)
    with pytest.raises(UsageError, match="got 2"):
        check_pictures(source((name(1),), ("cat", "dog")), LABELS)


def test_reading_the_file(tmp_path: Path) -> None:
    path = tmp_path / "real.json"
    path.write_text(json.dumps(LABELS))
    assert read_real(path) == LABELS


@pytest.mark.parametrize(
    "content",
    [{"a": [1]}, [], [[1000]], [[-1]], [["3"]], [[1.5]], [[True]], [3], [[0] * 101], None],
)
def test_files_of_another_kind(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "real.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_real(path)
    assert caught.value.code == "VIT-364"


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "real.json"
    for text in ("[[1], ", "[" * 100_000, "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match="cannot be read"):
            read_real(path)
    with pytest.raises(DataError, match="absent"):
        read_real(tmp_path / "absent.json")
    monkeypatch.setattr("vitrail.evaluation.real_labels.MAX_BYTES", 5)
    path.write_text("[[1], [2]]")
    with pytest.raises(DataError, match="10 bytes; at most 5 expected"):
        read_real(path)

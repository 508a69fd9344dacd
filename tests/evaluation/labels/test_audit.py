"""A finished run names leaked images and doubtful labels, with their files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.check.test_check_data import photos
from vitrail.data.sources.open_data import ArraySource, Splits, open_data
from vitrail.evaluation.labels import audit as module
from vitrail.evaluation.labels.audit import Limits, audit
from vitrail.evaluation.record import Evaluation


def evaluation(source: ArraySource, wrong: list[int]) -> Evaluation:
    """Sure predictions that are right but for those at `wrong`."""
    n, size = len(source), len(source.classes)
    told = source.labels.copy()
    told[wrong] = (told[wrong] + 1) % size
    p = np.full((n, size), 0.01, np.float32)
    p[np.arange(n), told] = 1 - 0.01 * (size - 1)
    return Evaluation(source.classes, p, source.labels, -np.log(p[np.arange(n), source.labels]))


def planted() -> tuple[Splits, ArraySource]:
    """Digits: test images 0 to 4 are training images, training label 7 is wrong."""
    splits = open_data("builtin:digits")
    train, test = splits.train, splits.test
    assert isinstance(train, ArraySource)
    assert isinstance(test, ArraySource)
    images, labels = test.images.copy(), test.labels.copy()
    images[:5], labels[:5] = train.images[20:25], train.labels[20:25]
    wrong = train.labels.copy()
    wrong[7] = (wrong[7] + 5) % 10
    test = replace(test, images=images, labels=labels)
    return replace(splits, train=replace(train, labels=wrong), test=test), test


def test_leaks_and_wrong_labels_are_named(tmp_path: Path) -> None:
    splits, test = planted()
    found = audit(splits, {"test": evaluation(test, [0, 1, 60])}, Limits())
    leak = found.leaks["test"]
    assert (leak.pictures, leak.n) == (5, 180)
    assert leak.top1 == pytest.approx(177 / 180)
    assert leak.top1_without == pytest.approx(174 / 175)
    assert found.leaks["val"].pictures == 0
    assert found.leaks["val"].top1 is None
    train = [one.index for one in found.suspects["train"].found]
    assert 7 in train
    assert len(train) <= 4
    assert [one.index for one in found.suspects["test"].found] == [0, 1, 60]
    told = found.sentences()
    assert told[0].startswith("5 of 180 test images are also in train; without them top-1 is ")
    assert f"{splits.train.source_id(20)} = test: {test.source_id(0)}" in told[0]
    assert any("of 1,437 labels of train may be wrong" in one for one in told)
    document = json.loads(json.dumps(found.to_json()))
    assert document["duplicates"]["across_splits"] == 5
    assert document["label_suspects"]["test"]["suspects"] == 3
    duplicates, suspects = found.write_tables(tmp_path)
    assert len(list(csv.reader(duplicates.read_text().splitlines()))) == 1 + 10
    assert len(list(csv.reader(suspects.read_text().splitlines()))) == 1 + len(train) + 3


def test_no_time_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    splits, test = planted()
    found = audit(splits, {"test": evaluation(test, [])}, Limits(max_secs=0.0, data="photos"))
    assert found.duplicates is None
    assert found.suspects["train"].why_not == module.NO_TIME
    assert found.suspects["train"].n == len(splits.train)
    assert found.skipped() == [
        "duplicate check skipped (time limit); to run it: vitrail data check photos",
        "label check skipped (time limit); to run it: vitrail data check photos --labels",
    ]
    assert set(found.skipped()) <= set(found.sentences())
    assert json.loads(json.dumps(found.to_json()))["duplicates"] is None
    monkeypatch.setattr(module, "AT_ONCE", 4)
    monkeypatch.setattr(module, "PAIR_SECS", 0.0)
    files = open_data(photos(tmp_path, {"train/a": 9, "train/b": 9, "test/a": 3, "test/b": 3}))
    clock = iter(range(100))
    mine = SimpleNamespace(monotonic=lambda: float(next(clock)))  # not that of the threads
    monkeypatch.setattr(module, "time", mine)
    found = audit(files, {}, Limits(max_secs=5.5))
    assert found.looked["test"] == 6
    assert 0 < found.looked["train"] < len(files.train)
    assert f"only {found.looked['train']} of {len(files.train)} train images" in found.notes[0]


def test_images_in_files_and_several_labels(tmp_path: Path) -> None:
    splits = open_data(photos(tmp_path, {"a": 12, "b": 12}))
    (tmp_path / "a" / "03.png").write_bytes(b"damaged since")
    found = audit(splits, {}, Limits(workers=2))
    assert found.duplicates is not None
    assert sum(found.looked.values()) == 24
    assert found.suspects["train"].n >= 15
    many = replace(splits, multi_label=True)
    assert audit(many, {}, Limits()).notes == ["label check skipped: images have several labels"]

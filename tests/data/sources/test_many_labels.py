"""Several labels of many classes without a table of them: what follows is the same (A18)."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.data.class_folders import picture
from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.sources import many_labels, shard_source, table
from vitrail.data.sources.examples import codes_of
from vitrail.data.sources.many_labels import ManyLabels, as_labels, many, stacked, targets
from vitrail.data.sources.nested import nested_order
from vitrail.data.sources.open_data import open_data
from vitrail.data.sources.source import class_counts
from vitrail.data.sources.split import hold_out

CLASSES = 7
LABELS = st.lists(st.lists(st.integers(0, CLASSES - 1), max_size=4), min_size=1, max_size=40)


def dense_of(own: list[list[int]]) -> NDArray[np.float32]:
    rows = np.zeros((len(own), CLASSES), np.float32)
    for row, numbers in enumerate(own):
        rows[row, numbers] = 1
    return rows


@given(LABELS, st.data())
@settings(max_examples=80, deadline=None)
def test_they_answer_as_the_table_does(own: list[list[int]], data: st.DataObject) -> None:
    labels, dense = many(own, CLASSES), dense_of(own)
    places = np.array(data.draw(st.lists(st.integers(0, len(own) - 1), max_size=30)), np.int64)
    assert labels.shape == dense.shape
    np.testing.assert_array_equal(targets(labels, places), dense[places])
    np.testing.assert_array_equal(labels[places].dense(np.arange(len(places))), dense[places])
    np.testing.assert_array_equal(labels[0], dense[0])
    np.testing.assert_array_equal(labels.sum(axis=0), dense.sum(axis=0))
    np.testing.assert_array_equal(labels.of_class(2), dense[:, 2] > 0)
    both = stacked([labels, labels[places]])
    np.testing.assert_array_equal(targets(both, np.arange(len(both))), [*dense, *dense[places]])
    order = np.arange(CLASSES)[::-1].copy()
    turned = labels.renumbered(order, CLASSES)
    np.testing.assert_array_equal(turned.dense(np.arange(len(own))), dense[:, ::-1])
    same = [codes_of(as_labels(labels))[k].tobytes() for k in range(len(own))]
    assert len(set(same)) == len({row.tobytes() for row in dense})


@given(LABELS, st.floats(0, 0.9), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_splits_and_nested_samples_are_the_same(
    own: list[list[int]], size: float, seed: int
) -> None:
    labels, dense = as_labels(many(own, CLASSES)), dense_of(own)
    firsts = np.array([own.index(one) for one in own], np.int64)  # equal ones lie together
    for alike in (None, firsts):
        for one, other in zip(
            hold_out(labels, size, seed, "val", alike),
            hold_out(dense, size, seed, "val", alike),
            strict=True,
        ):
            assert one.tolist() == other.tolist()
    assert nested_order(labels, seed).tolist() == nested_order(dense, seed).tolist()


def test_tables_and_shards_of_many_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for k in range(12):
            (tmp_path / f"{k}.jpg").write_bytes(picture(k, (k * 20, 9, 90)))
            part = "train" if k < 9 else "test"
            writer.writerow([f"{k}.jpg", f"c{k % 3}|c{(k + 1) % 3}" if k else "", part])
    dense = open_data(tmp_path / "labels.csv")
    for module in (many_labels, table, shard_source):
        monkeypatch.setattr(module, "DENSE_CELLS", 1)
    splits = open_data(tmp_path / "labels.csv")
    write_shards(splits, tmp_path / "shards", ShardOptions())
    shards = open_data(tmp_path / "shards")
    for part, source in dense.parts().items():
        everything = np.arange(len(source))
        for twin in (splits.parts()[part], shards.parts()[part]):
            assert isinstance(twin.labels, ManyLabels)
            np.testing.assert_array_equal(targets(twin.labels, everything), source.labels)
            assert class_counts(twin) == class_counts(source)


def test_100000_images_of_18000_classes_take_24_bytes_each() -> None:
    """The table would take 7.2 GB."""
    rng = np.random.default_rng(0)
    n, classes = 100_000, 18_000
    ids = np.sort(rng.integers(0, classes, (n, 3), dtype=np.int32), axis=1)
    labels = ManyLabels(np.arange(1, n + 1, dtype=np.int64) * 3, ids.ravel(), classes)
    assert labels.nbytes <= 24 * n
    places = rng.integers(0, n, 64)
    tracemalloc.start()
    taught = targets(labels, places)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    expected = np.zeros((64, classes), np.float32)
    expected[np.arange(64)[:, None], ids[places]] = 1
    np.testing.assert_array_equal(taught, expected)
    kept, held = hold_out(as_labels(labels), 0.1, 0)
    assert len(kept) + len(held) == n

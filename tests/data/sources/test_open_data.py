"""open_data tells kinds of data apart; sources, subsets and fingerprints."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.odd_images import encoded, noise
from vitrail.data.sources.open_data import (
    ArraySource,
    FileSource,
    Source,
    fingerprint,
    open_data,
    read_bytes,
    subset,
)
from vitrail.errors import DataError


def file_source(folder: Path, number: int = 6) -> FileSource:
    """`number` images of two classes in `folder`."""
    paths = tuple(f"{'ab'[k % 2]}/{k}.png" for k in range(number))
    for k, path in enumerate(paths):
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_bytes(encoded(noise(5, 7, seed=k), "PNG"))
    return FileSource("x", ("a", "b"), np.arange(number) % 2, str(folder), paths)


def array_source(number: int = 6) -> ArraySource:
    images = np.arange(number * 12, dtype=np.uint8).reshape(number, 3, 4, 1)
    return ArraySource("x", ("a", "b"), np.arange(number) % 2, images, "train-images")


def test_digits() -> None:
    splits = open_data("builtin:digits")
    assert {part: len(source) for part, source in splits.parts().items()} == {
        "train": 1437,
        "val": 180,
        "test": 180,
    }
    assert splits.classes == tuple("0123456789")
    assert isinstance(splits.train, ArraySource)
    assert splits.train.images.shape == (1437, 8, 8, 1)
    assert (splits.train.images.min(), splits.train.images.max()) == (0, 255)
    for source in splits.parts().values():
        shares = np.bincount(source.labels) / len(source)
        assert np.abs(shares - 0.1).max() < 0.01
    assert open_data("builtin:digits", val_fraction=0, test_fraction=0).test is None


@pytest.mark.parity
def test_digits_are_scikit_learns() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    given = datasets.load_digits()
    whole = open_data("builtin:digits", val_fraction=0, test_fraction=0).train
    assert isinstance(whole, ArraySource)
    assert np.array_equal(whole.images[..., 0], np.rint(given.images * 255 / 16))
    assert np.array_equal(whole.labels, given.target)


def test_what_is_not_accepted_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x")
    (tmp_path / "a.jpg").write_bytes(b"x")
    cases = {
        "https://x.org/a.zip": "cannot be fetched",
        str(tmp_path / "a.tar"): "no data set that can be opened",
        str(tmp_path / "a.jpg"): "no data set that can be opened",
        "nowhere/at/all": "does not exist",
        "builtin:digit": "builtin:digits",
    }
    for path, words in cases.items():
        with pytest.raises(DataError, match=words) as caught:
            open_data(path)
        assert caught.value.code == "VIT-303"
        assert "builtin:digits" in str(caught.value)


def test_the_same_seed_gives_the_same_split() -> None:
    ids = []
    for seed in (0, 0, 1):
        source = open_data("builtin:digits", seed=seed).parts()["test"]
        ids.append([source.source_id(k) for k in range(len(source))])
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_subsets_keep_kind_labels_and_ids(tmp_path: Path) -> None:
    chosen = np.array([4, 1, 5])
    for source in (array_source(), file_source(tmp_path)):
        part = subset(source, chosen)
        assert type(part) is type(source)
        assert len(part) == 3
        for place, index in enumerate(chosen):
            assert part.source_id(place) == source.source_id(int(index))
            data, label = part.read(place)
            given, expected = source.read(int(index))
            assert label == expected
            assert np.array_equal(data, given)
        twice = subset(part, np.array([2, 0]))
        assert twice.source_id(0) == source.source_id(5)
        assert len(subset(source, np.zeros(0, np.int64))) == 0
    assert array_source().source_id(4) == "train-images:4"
    assert read_bytes(file_source(tmp_path), 2) == (tmp_path / "a/2.png").read_bytes()


def test_an_empty_subset_of_arrays_has_no_ids() -> None:
    empty = subset(array_source(), np.zeros(0, np.int64))
    assert (len(empty), len(empty.numbers), empty.labels.shape) == (0, 0, (0,))


def test_fingerprint_changes_with_everything(tmp_path: Path) -> None:
    sources: list[Source] = [array_source(), file_source(tmp_path / "x")]
    marks = [fingerprint(source) for source in sources]
    assert len(set(marks)) == 2
    assert marks == [fingerprint(array_source()), fingerprint(file_source(tmp_path / "x"))]
    assert all(len(mark) == 64 for mark in marks)
    changed: list[Source] = [
        subset(sources[0], np.arange(5)),
        subset(sources[0], np.array([1, 0, 2, 3, 4, 5])),
        replace(array_source(), classes=("a", "c")),
        replace(array_source(), labels=1 - array_source().labels),
        replace(array_source(), images=255 - array_source().images),
        subset(sources[1], np.arange(5)),
    ]
    marks += [fingerprint(source) for source in changed]
    picture = tmp_path / "x" / "a" / "2.png"
    facts, content = picture.stat(), picture.read_bytes()
    picture.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # another of the same size
    os.utime(picture, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # and time
    marks.append(fingerprint(sources[1]))
    picture.write_bytes(b"other size")
    marks.append(fingerprint(sources[1]))
    (tmp_path / "x" / "a" / "2.png").unlink()
    marks.append(fingerprint(sources[1]))
    assert len(set(marks)) == len(marks)


def test_data_code_imports_no_torch() -> None:
    sources = "open_data folder table arrays cifar digits split source"
    names = ", ".join(f"vitrail.data.sources.{name}" for name in sources.split())
    names += ", vitrail.data.images.decode, vitrail.data.images.preprocess"
    names += ", vitrail.data.check.check_data"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

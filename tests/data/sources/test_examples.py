"""examples.dat: what a run records of its images, and how they are found again."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from tests.data.odd_images import encoded, noise
from vitrail.data.sources import digest as identity
from vitrail.data.sources.digest import digest_of
from vitrail.data.sources.examples import (
    FILE,
    ROLES,
    Examples,
    examples_of,
    match,
    parse,
    pool_of,
    read_examples,
)
from vitrail.data.sources.open_data import open_data, open_whole
from vitrail.data.sources.source import FileSource, Splits

OLD = time.time_ns() - 3600 * 10**9


def photos(root: Path, count: int = 12) -> Path:
    for name in "ab":
        (root / name).mkdir(parents=True)
        for k in range(count):
            path = root / name / f"{k:02}.png"
            path.write_bytes(encoded(noise(4, 4, seed=100 * ord(name) + k), "PNG"))
    return root


def recorded(root: Path, seed: int = 0) -> tuple[Splits, Examples]:
    """As a run records it, long after the files were written."""
    splits = replace(open_data(root, seed=seed), opened_ns=time.time_ns() + 10**11)
    return splits, examples_of(splits, is_whole=True)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    found: list[str] = []

    def read(source: FileSource, index: int) -> bytes:
        found.append(source.paths[index])
        return digest_of(source.read(index)[0])

    monkeypatch.setattr(identity, "_digest", read)
    return found


@pytest.mark.promise("R15")
def test_files_whose_entries_are_as_recorded_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photos(tmp_path / "d")
    _, record = recorded(root)
    found = reads(monkeypatch)
    later = replace(open_whole(root), opened_ns=time.time_ns() + 10**11)
    assert (match(record, pool_of(later, record)) >= 0).all()
    assert found == []
    one, other = root / "a" / "00.png", root / "a" / "01.png"
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in (one, other)]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    for path, both in zip((one, other), times, strict=True):
        os.utime(path, ns=both)  # size and time as before: the time of the entry tells
    later = replace(open_whole(root), opened_ns=time.time_ns() + 10**11)
    pool_of(later, record)
    assert sorted(found) == ["a/00.png", "a/01.png"]


@pytest.mark.promise("R15")
def test_a_file_that_changed_a_moment_ago_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change once more within the same tick of the clock."""
    root = photos(tmp_path / "d", 4)
    splits = open_data(root)
    record = examples_of(splits, is_whole=True)
    assert record.hints is not None
    assert not record.hints.any()
    found = reads(monkeypatch)
    pool_of(open_whole(root), record)
    assert len(found) == 8


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    splits, record = recorded(photos(tmp_path / "d"))
    (tmp_path / FILE).write_bytes(record.to_bytes())
    again = read_examples(tmp_path)
    assert again.names == record.names
    assert again.is_whole
    for name in ("digests", "roles", "label_codes", "hints"):
        assert np.array_equal(getattr(again, name), getattr(record, name)), name
    shared = parse(record.shared().to_bytes())
    assert shared.names == ()
    assert shared.hints is None
    for role in ("train", "val", "test"):
        digests = record.of(role)
        assert shared.holds(digests, role).all()
        assert not shared.holds(digests, *({"train", "val", "test"} - {role})).any()
        assert len(shared.of(role)) == len(splits.parts()[role])
    keys = identity.keys_of(shared.digests)
    assert (keys[:-1] <= keys[1:]).all()  # nothing of the order or the names of the data


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_bit_is_noticed(place: int, bit: int) -> None:
    data = bytearray(WHOLE)
    data[place % len(data)] ^= 1 << bit
    try:
        found = parse(bytes(data))
    except ValueError:
        return
    assert found.to_bytes() == WHOLE  # a space in the header of the container


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, -1, -200])
def test_half_a_file_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="no whole file"):
        parse(WHOLE[:length])


def test_what_is_no_record_is_refused() -> None:
    tensors = load(WHOLE)
    for name in tensors:
        with pytest.raises(ValueError, match="no record|damaged"):
            parse(save({key: value for key, value in tensors.items() if key != name}))
    with pytest.raises(ValueError, match="no record"):
        parse(save({**tensors, "roles": tensors["roles"].astype(np.int16)}))
    with pytest.raises(ValueError, match="schema"):
        parse(save({**tensors, "schema": np.array([99, 1])}))


def made() -> bytes:
    rows = np.arange(48, dtype=np.uint8).reshape(3, 16)
    roles = np.array([0, 1, 2], np.uint8)
    codes, hints = np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.int64)
    return Examples(rows, roles, codes, ("a", "b", "c"), hints).to_bytes()


WHOLE = made()


@pytest.mark.promise("E1")
def test_images_are_found_by_content_wherever_they_lie(tmp_path: Path) -> None:
    root = photos(tmp_path / "d")
    splits, record = recorded(root)
    shutil.move(root / "a" / "00.png", root / "b" / "moved.png")
    (root / "a" / "new.png").write_bytes(encoded(noise(4, 4, seed=9), "PNG"))
    (root / "a" / "03.png").write_bytes(encoded(noise(4, 4, seed=10), "PNG"))
    for known in (record, record.shared()):
        pool = pool_of(open_whole(root), known)
        found = match(known, pool)
        assert (found < 0).sum() == 1
        assert len(set(found[found >= 0])) == 23
        assert np.array_equal(pool.digests[found[found >= 0]], known.digests[found >= 0])
    assert sum(map(len, splits.parts().values())) == 24


@pytest.mark.promise("E1")
def test_equal_images_of_given_splits_keep_their_split(tmp_path: Path) -> None:
    for part in ("train", "test"):
        photos(tmp_path / part, 4)  # every test image is a training image
    splits = open_data(tmp_path, val_fraction=0)
    record = examples_of(splits, is_whole=True)
    for known in (record, record.shared()):
        pool = pool_of(open_whole(tmp_path), known)
        found = match(known, pool)
        for number, role in enumerate(ROLES[:3]):
            names = [pool.names[place] for place in found[known.roles == number]]
            assert all(name.startswith(role) for name in names)
    assert record.holds(record.of("test"), "train").all()

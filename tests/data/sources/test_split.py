"""Splits: laws for any labels, and the table that fixes them."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.data.odd_images import encoded, noise
from vitrail.data.sources import split
from vitrail.data.sources.open_data import open_data, open_whole
from vitrail.data.sources.source import ArraySource, FileSource, Labels, Source, Splits
from vitrail.data.sources.split import complete, drawn, hold_out, write_split
from vitrail.errors import DataError
from vitrail.spelling import is_formula

PNG = encoded(noise(5, 7), "PNG")

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(
    lambda values: np.array(values, dtype=np.int64)
)
SHARE = st.floats(0, 0.9)


def split_indices(
    labels: Labels, *, val: float | int, test: float | int, seed: int
) -> tuple[NDArray[np.int64], ...]:
    """(train, val, test) sorted index arrays; a share of `val` is of what `test` leaves."""
    rest, test_indices = hold_out(labels, test, seed, "test")
    train, held = hold_out(labels[rest], val, seed, "val")
    return rest[train], rest[held], test_indices


@given(labels=LABELS, val=SHARE, test=SHARE, seed=st.integers(0, 2**32 - 1))
def test_splits_are_disjoint_complete_and_keep_every_class(
    labels: Labels, val: float, test: float, seed: int
) -> None:
    parts = split_indices(labels, val=val, test=test, seed=seed)
    together = np.concatenate(parts)
    assert sorted(together.tolist()) == list(range(len(labels)))
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    assert set(labels[parts[0]]) == set(labels)  # every class keeps a training image
    again = split_indices(labels, val=val, test=test, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@given(labels=LABELS, share=st.floats(0.01, 0.9), seed=st.integers(0, 99))
def test_held_out_shares_are_proportional(labels: Labels, share: float, seed: int) -> None:
    _, held = hold_out(labels, share, seed)
    target = round(share * len(labels))
    counts = np.bincount(labels, minlength=7)
    taken = np.bincount(labels[held], minlength=7)
    if target == 0:
        assert len(held) == 0
        return
    assert ((taken >= 1) == (counts >= 2)).all()  # each class of two or more gives one
    forced = int((counts >= 2).sum())
    assert len(held) <= max(target, forced)
    exact = counts * target / len(labels)
    free = (exact > 1) & (exact < counts - 1)
    if len(held) == target and free.all():
        assert (np.abs(taken - exact) < 1).all()


@given(labels=LABELS, count=st.integers(1, 40))
def test_a_count_is_met_where_the_classes_allow(labels: Labels, count: int) -> None:
    _, held = hold_out(labels, count, 3)
    counts = np.bincount(labels)
    least = int((counts >= 2).sum())
    most = int(np.maximum(counts - 1, 0).sum())
    assert len(held) == min(max(count, least), most)


@given(
    table=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=60),
    share=SHARE,
)
def test_images_with_several_labels(table: list[list[bool]], share: float) -> None:
    labels = np.array(table, dtype=np.float32)
    train, val, test = split_indices(labels, val=share, test=share / 2, seed=1)
    assert sorted([*train, *val, *test]) == list(range(len(labels)))
    assert (labels[train].any(0) == labels.any(0)).all()


def test_another_seed_or_purpose_draws_others() -> None:
    labels = np.arange(400) % 4
    draws = [hold_out(labels, 100, seed, "val")[1] for seed in (0, 1)]
    draws.append(hold_out(labels, 100, 0, "test")[1])
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        common = len(np.intersect1d(draws[first], draws[second]))
        assert 10 < common < 45  # 25 expected by chance
    assert all(np.bincount(labels[draw]).tolist() == [25] * 4 for draw in draws)


def test_known_answer() -> None:
    """Runs made today find the same images held out in ten years."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2])
    assert hold_out(labels, 5, 7, "test")[1].tolist() == KNOWN


KNOWN = [1, 3, 6, 9, 11]


def arrays(labels: Labels, **parts: Labels) -> Splits:
    def source(own: Labels) -> ArraySource:
        images = np.arange(len(own), dtype="<u4").view(np.uint8).reshape(-1, 2, 2, 1)  # no equals
        return ArraySource("x", ("a", "b"), own, images)

    given = {name: source(own) for name, own in parts.items()}
    return Splits(
        "x", ("a", "b"), source(labels), given.get("val"), given.get("test"), "", "arrays"
    )


def counts(splits: Splits) -> dict[str, int]:
    return {part: len(source) for part, source in splits.parts().items()}


def test_automatic_sizes() -> None:
    many, few = np.arange(50_000) % 2, np.arange(40) % 2
    assert counts(complete(arrays(many))) == {"train": 37_500, "val": 5_000, "test": 7_500}
    assert counts(complete(arrays(few))) == {"train": 29, "val": 5, "test": 6}
    assert counts(complete(arrays(few, val=few))) == {"train": 40, "val": 40}
    assert counts(complete(arrays(few, test=few))) == {"train": 34, "val": 6, "test": 40}
    assert counts(complete(arrays(few), val=0, test=0)) == {"train": 40}
    assert counts(complete(arrays(few), val=0.5, test=0.5)) == {"train": 10, "val": 10, "test": 20}
    assert counts(complete(arrays(few, val=few), test=0.1)) == {"train": 36, "val": 40, "test": 4}


def test_fractions_without_effect_are_refused() -> None:
    labels = np.arange(40) % 2
    for share in (0.1, 0):
        with pytest.raises(DataError, match=f"{share} would have no effect") as caught:
            complete(arrays(labels, val=labels), val=share)
        assert caught.value.code == "VIT-318"
    for bad in (1, 1.5, -0.1, float("nan")):
        with pytest.raises(DataError, match="from 0 to below 1"):
            complete(arrays(labels), test=bad)


def test_the_sentence_says_what_was_done() -> None:
    labels = np.arange(40) % 2
    how = complete(arrays(labels, test=labels), seed=5).how
    assert how == "train, test as given; stratified split (seed 5): 34 train, 6 validation"
    assert complete(arrays(labels), val=0, test=0).how == "no split: 40 training images"


def test_a_class_of_one_stays_in_train() -> None:
    labels = np.array([0] * 30 + [1])
    train, val, test = split_indices(labels, val=0.3, test=0.3, seed=0)
    assert 30 in train
    assert (len(val), len(test)) == (7, 9)


def test_table_of_a_split_is_a_data_set_with_that_split(tmp_path: Path) -> None:
    for name in "ab":
        for k in range(12):
            path = tmp_path / name / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded(noise(4, 4, seed=k), "PNG"))
    splits = open_data(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    table = write_split(splits, tmp_path / "labels.csv")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, table])  # nothing moved
    again = open_data(table)
    for part, source in splits.parts().items():
        other = again.parts()[part]
        own = {source.source_id(k): source.labels[k] for k in range(len(source))}
        assert own == {other.source_id(k): other.labels[k] for k in range(len(other))}
    with pytest.raises(DataError, match="exists") as caught:
        write_split(splits, table)
    assert caught.value.code == "VIT-321"


def test_table_of_several_labels_and_of_arrays(tmp_path: Path) -> None:
    labels = np.array([[1, 1], [0, 1], [0, 0]], np.float32)
    source = ArraySource("x", ("a", "b"), labels, np.zeros((3, 2, 2, 1), np.uint8), "digits")
    splits = Splits("x", ("a", "b"), source, None, None, "", "arrays", multi_label=True)
    text = write_split(splits, tmp_path / "t.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    assert rows == [
        ["path", "label", "split"],
        ["digits:0", "a|b", "train"],
        ["digits:1", "b", "train"],
        ["digits:2", "", "train"],
    ]


@pytest.mark.promise("E1")
@given(
    labels=LABELS,
    contents=st.lists(st.integers(0, 30), min_size=120, max_size=120),
    shares=st.tuples(SHARE, SHARE),
    seed=st.integers(0, 99),
)
def test_equal_images_lie_in_one_split(
    labels: Labels, contents: list[int], shares: tuple[float, float], seed: int
) -> None:
    """Whatever their labels; every class keeps an image to train on."""
    splits = arrays(labels)
    assert isinstance(splits.train, ArraySource)
    images = splits.train.images.copy()
    images[:, 0, 0, 0] = contents[: len(labels)]
    images[:, 1:] = images[:, :1, 1:] = 0
    classes = tuple("abcdefg")
    whole = replace(splits, train=replace(splits.train, images=images, classes=classes))
    parts = complete(whole, val=shares[0], test=shares[1], seed=seed).parts()
    assert sum(len(part) for part in parts.values()) == len(labels)
    seen = [{bytes(part.read(k)[0]) for k in range(len(part))} for part in parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert set(parts["train"].labels) == set(labels)


@given(labels=LABELS, val=SHARE, test=SHARE, seed=st.integers(0, 2**32 - 1))
def test_without_equal_images_the_labels_alone_decide(
    labels: Labels, val: float, test: float, seed: int
) -> None:
    """The same images are held out as before equal ones were looked for."""
    parts = complete(arrays(labels), val=val, test=test, seed=seed).parts()
    expected = split_indices(labels, val=val, test=test, seed=seed)
    for name, indices in zip(("train", "val", "test"), expected, strict=True):
        found = parts[name].labels if name in parts else np.zeros(0, np.int64)
        assert np.array_equal(found, labels[indices])
        if name in parts:
            part = parts[name]
            assert isinstance(part, ArraySource)
            assert np.array_equal(part.numbers, indices)


@pytest.mark.promise("E1")
def test_equal_files_lie_in_one_split_under_any_name_and_class(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for k in range(20):
            (tmp_path / name / f"{k}.png").write_bytes(encoded(noise(4, 4, seed=k // 2), "PNG"))
    for seed in range(5):
        splits = open_data(tmp_path, seed=seed)
        contents = [{part.read(k)[0] for k in range(len(part))} for part in splits.parts().values()]
        assert [len(own) for own in contents if own] == [7, 1, 2]
        assert len(set().union(*contents)) == 10
        assert splits.how.endswith("; 30 that are equal to another lie in one split with it")


# Names that a folder may have on Linux: anything but "/" and NUL, also bytes that are no UTF-8.
ODD = st.sampled_from(
    [*"ab=+-@'\"|,;\\ \n\t\x1b\u202e\u00e9\u3000", "\udcff", "escaped:", "\\x41", ".."]
)
FILE_NAMES = st.lists(ODD, min_size=1, max_size=6).map("".join)
CLASS_NAMES = FILE_NAMES.filter(
    lambda name: (
        name.strip() and not name.startswith(".") and not set(name) & {"\n", "\t", "\x1b", "\udcff"}
    )
)


@pytest.mark.promise("D6")
@settings(max_examples=60, deadline=None)
@given(
    classes=st.lists(CLASS_NAMES, min_size=2, max_size=3, unique=True),
    files=st.lists(FILE_NAMES, min_size=1, max_size=3, unique=True),
)
@example(classes=["cat|dog", "cat"], files=["x\\y", "=cmd|' C calc'!A0", " a ", "x\udcff\n"])
@example(classes=["=1+1", "-1"], files=["-"])
def test_the_table_of_a_folder_is_the_same_dataset(classes: list[str], files: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for label in classes:
            (Path(folder) / label).mkdir()
            for name in files:
                content = PNG + f"{label}/{name}".encode("utf-8", "surrogateescape")
                (Path(folder) / label / f"n{name}.png").write_bytes(content)
        given = open_data(folder, val_fraction=0.3, test_fraction=0.3)
        table = write_split(given, Path(folder) / "split.csv")
        again = open_whole(table)
        assert again.classes == given.classes
        assert not again.multi_label
        for part, source in given.parts().items():
            assert placed(again.parts()[part]) == placed(source)
        for row in csv.reader(table.read_text(encoding="utf-8").splitlines()):
            assert not any(is_formula(cell) for cell in row)


def placed(source: Source) -> dict[str, str]:
    """Path -> class."""
    assert isinstance(source, FileSource)
    return {
        path: source.classes[int(label)]
        for path, label in zip(source.paths, source.labels, strict=True)
    }


def test_a_name_in_a_table_that_is_not_as_we_write_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\nescaped:a\\q.png,x\nb.png,y\n")
    with pytest.raises(DataError, match="line 2: escaped:a") as caught:
        open_data(tmp_path / "t.csv")
    assert caught.value.code == "VIT-311"


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=80), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_images_are_ordered_by_group_and_draw(numbers: list[int], ties: int) -> None:
    groups = np.array(numbers, np.int64) * 11
    draws = drawn(len(groups), 0, "val").round(ties)
    own, counts = split._numbered(groups)
    names, same, expected = np.unique(groups, return_inverse=True, return_counts=True)
    assert own.tolist() == same.tolist()
    assert counts.tolist() == expected.tolist()
    assert split._by_group(own, draws).tolist() == np.lexsort((draws, groups)).tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_lowest_draws_of_each_group_are_taken(numbers: list[int], most: int, seed: int) -> None:
    """Also where only images with low draws are looked at."""
    own, counts = split._numbered(np.array(numbers, np.int64))
    quotas = np.minimum(counts, 1 + most % (1 + np.arange(len(counts))))
    draws = drawn(len(own), seed, "val")
    expected = [
        np.flatnonzero(own == group)[np.argsort(draws[own == group])[:quota]]
        for group, quota in enumerate(quotas)
    ]
    found = split._first(own, draws, quotas)
    assert sorted(found.tolist()) == sorted(np.concatenate(expected).tolist())

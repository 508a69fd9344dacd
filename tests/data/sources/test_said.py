"""What of a dataset may not be as it was meant is said in one line, or refused with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail.data.sources.open_data import open_whole
from vitrail.errors import DataError


def images(root: Path, *folders: str, names: tuple[str, ...] = ("0.png", "1.png")) -> Path:
    """A small image of each name in each folder."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("RGB", (8, 8)).save(root / folder / name)
    return root


@pytest.mark.promise("M9")
@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cat"), ("a", "a "), ("big cat", "big_cat"), ("ab", "a\u200bb"), ("A1", "\uff211")],
)
def test_names_that_look_alike(tmp_path: Path, one: str, other: str) -> None:
    """In one folder they are two classes, and said; between splits the meant one is named."""
    found = open_whole(images(tmp_path / "one", one, other, "dog"))
    assert len(found.classes) == 3
    assert any("differ only" in note and ascii(one) in note for note in found.notes)
    images(tmp_path / "two", f"train/{one}", "train/dog", f"test/{other}", "test/dog")
    with pytest.raises(DataError, match="classes that train/ has not") as caught:
        open_whole(tmp_path / "two")
    assert f"{other!a} to {one!a}" in caught.value.hint


def test_numbers_that_are_one_number(tmp_path: Path) -> None:
    images(tmp_path, "i", names=("0.png", "1.png", "2.png", "3.png"))
    rows = [f"i/{i}.png,{label}\n" for i, label in enumerate(["0", "1", "1.0", "10"])]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows))
    (note,) = open_whole(tmp_path / "t.csv").notes
    assert "'1', '1.0'" in note
    assert "'10'" not in note


@pytest.mark.promise("M9")
@pytest.mark.parametrize("splits", [("train", "test"), ("Training", "valid", "test_set")])
def test_splits_below_each_class(tmp_path: Path, splits: tuple[str, ...]) -> None:
    """Read as folders of the class, their test images would be trained on."""
    images(tmp_path, *(f"{label}/{split}" for label in "ab" for split in splits))
    with pytest.raises(DataError, match="splits below a class") as caught:
        open_whole(tmp_path)
    assert (caught.value.code, "train/CLASS/IMAGE" in caught.value.hint) == ("VIT-307", True)


def test_a_split_that_lacks_a_class_and_one_without_classes(tmp_path: Path) -> None:
    images(tmp_path, "train/a", "train/b", "test/a", "val")
    notes = " ".join(open_whole(tmp_path).notes)
    assert "test has no images of 1 class: b." in notes
    assert "val/ with 2 images" in notes


def test_masks_next_to_their_images(tmp_path: Path) -> None:
    names = ("x (1).png", "x (1)_mask.png", "x (1)_mask_1.png", "eye_mask.png")
    notes = open_whole(images(tmp_path, "a", "b", names=names)).notes
    assert any(note.startswith("4 images named as masks of others") for note in notes)


@pytest.mark.promise("M9")
@pytest.mark.parametrize("line", [3, 9])
def test_a_line_of_more_cells_than_the_first(tmp_path: Path, line: int) -> None:
    """A label with a comma that is not in quotes was cut at the comma."""
    images(tmp_path, "i", names=tuple(f"{i}.png" for i in range(8)))
    rows = [f"i/{i}.png,{'ab'[i % 2]}" for i in range(8)]
    rows[line - 2] += ", b"
    (tmp_path / "t.csv").write_text("path,label\n" + "\n".join(rows))
    with pytest.raises(DataError, match=f"line {line}: expected 2 columns") as caught:
        open_whole(tmp_path / "t.csv")
    assert "quotes" in caught.value.hint
    rows[line - 2] = rows[line - 2].removesuffix(", b") + ",,"  # as spreadsheets leave it
    (tmp_path / "t.csv").write_text("path,label\n" + "\n".join(rows))
    assert len(open_whole(tmp_path / "t.csv").train) == 8


def arrays(tmp_path: Path, **more: Any) -> Path:
    rng = np.random.default_rng(0)
    found = {"images": rng.integers(0, 256, (6, 4, 4, 3), np.uint8), "labels": np.arange(6) % 3}
    np.savez(tmp_path / "a.npz", **(found | more))
    return tmp_path / "a.npz"


def test_one_hot_labels_are_one_class_an_image(tmp_path: Path) -> None:
    found = open_whole(arrays(tmp_path, labels=np.eye(3)[np.arange(6) % 3]))
    assert not found.multi_label
    assert np.asarray(found.train.labels).tolist() == [0, 1, 2, 0, 1, 2]
    assert any("read as one class an image" in note for note in found.notes)
    several = np.eye(3)[np.arange(6) % 3]
    several[0, 2] = 1
    assert open_whole(arrays(tmp_path, labels=several)).multi_label


def test_bytes_that_are_shares(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (6, 4, 4, 3), np.uint8)
    (note,) = open_whole(arrays(tmp_path, images=pixels)).notes
    assert "almost black" in note


@pytest.mark.promise("M9")
@pytest.mark.parametrize(
    ("scale", "shift", "dtype"),
    [
        (1, 0, "float32"),
        (1, 0, "int64"),
        (1 / 255, 0, "float64"),
        (1 / 127.5, -1, "float32"),
        (257, 0, "uint16"),
    ],
)
def test_the_way_from_other_pixels_gives_the_same_images(
    tmp_path: Path, scale: float, shift: float, dtype: str
) -> None:
    """What the message says to do is done; it was one sentence for every range."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    images = (pixels.astype("float64") * scale + shift).astype(dtype)
    with pytest.raises(DataError, match="expected uint8") as caught:
        open_whole(arrays(tmp_path, images=images))
    way = caught.value.hint.rpartition("convert: ")[2].removesuffix(".")
    assert np.array_equal(eval(way, {"images": images}), pixels)

"""Class folders: what is a class, a split, an image; and an error with a way out for the rest."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.odd_images import encoded, noise
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.sources.folder import class_name
from vitrail.data.sources.open_data import FileSource, Splits, open_data
from vitrail.data.sources.walk import is_image
from vitrail.errors import DataError

PNG = encoded(noise(5, 7), "PNG")


def make(root: Path, *files: str) -> Path:
    """Image files below `root`, no two alike: equal ones would be held out together."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + os.fsencode(name))
    return root


def many(folder: str, number: int = 4) -> list[str]:
    """Names of `number` images in `folder`."""
    return [f"{folder}/{k:02d}.jpg" for k in range(number)]


def refused(path: Path, code: str, *words: str) -> DataError:
    """The error that opening `path` gives."""
    with pytest.raises(DataError) as caught:
        open_data(str(path))
    assert caught.value.code == code, str(caught.value)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def paths(splits: Splits) -> list[str]:
    """All image paths, sorted."""
    sources: Sequence[object] = list(splits.parts().values())
    return sorted(p for source in sources if isinstance(source, FileSource) for p in source.paths)


def test_without_splits_classes_are_the_folders(tmp_path: Path) -> None:
    make(tmp_path, *many("dog", 20), *many("cat", 20), *many("Zebra", 3))
    splits = open_data(tmp_path)
    assert splits.classes == ("Zebra", "cat", "dog")  # by code point
    assert splits.kind == "files"
    assert {name: len(source) for name, source in splits.parts().items()} == {
        "train": 31,
        "val": 6,
        "test": 6,
    }
    assert len(set(paths(splits))) == 43
    data, label = splits.train.read(0)
    assert data == PNG + b"Zebra/00.jpg"
    assert splits.classes[label] == splits.train.source_id(0).partition("/")[0]
    assert "seed 0" in splits.how


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_with_splits(tmp_path: Path, val: str) -> None:
    make(tmp_path, *many("train/a"), *many("train/b"), *many(f"{val}/b", 2), *many("test/a", 3))
    splits = open_data(tmp_path)
    assert splits.val is not None
    assert splits.test is not None
    assert splits.val.labels.tolist() == [1, 1]
    assert splits.test.labels.tolist() == [0, 0, 0]
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4
    assert splits.test.source_id(0) == "test/a/00.jpg"
    assert splits.how == "train, val, test as given"


def test_a_given_val_leaves_test_none_and_a_given_test_gets_a_val(tmp_path: Path) -> None:
    one = make(tmp_path / "one", *many("train/a"), *many("train/b"), *many("val/a"), *many("val/b"))
    splits = open_data(one)
    assert splits.test is None
    assert len(splits.train) == 8
    two = make(tmp_path / "two", *many("train/a", 20), *many("train/b", 20), *many("test/a"))
    splits = open_data(two)
    assert splits.val is not None
    assert (len(splits.train), len(splits.val)) == (34, 6)


def test_folders_named_train_without_folders_inside_are_classes(tmp_path: Path) -> None:
    make(tmp_path, *many("train"), *many("plane"), *many("test"))
    assert open_data(tmp_path).classes == ("plane", "test", "train")


def test_images_without_class_folders(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg")
    error = refused(tmp_path, "VIT-302", "has images but no class folders", "CLASS/IMAGE")
    assert "labels.csv" in error.hint


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path, "VIT-305", "holds no images")
    refused(tmp_path / "none", "VIT-303", "does not exist", "Accepted:")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    refused(tmp_path, "VIT-305", "1 file that is not an image (1 .txt); 1 hidden name (.git)")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    refused(tmp_path, "VIT-305", "hold no images")


def test_only_one_class_and_the_wrapped_folder(tmp_path: Path) -> None:
    make(tmp_path / "x", *many("cat"))
    refused(tmp_path / "x", "VIT-304", "only one class folder: cat")
    make(tmp_path / "y", *many("photos/cat"), *many("photos/dog"))
    error = refused(tmp_path / "y", "VIT-304")
    assert str(tmp_path / "y" / "photos") in error.hint
    assert open_data(tmp_path / "y" / "photos").classes == ("cat", "dog")


def test_empty_class_folders_are_named(tmp_path: Path) -> None:
    make(tmp_path, *many("cat"), *many("dog"), "fox/notes.txt")
    refused(tmp_path, "VIT-306", "without images: fox", "1 .txt")


def test_splits_with_other_classes_are_named(tmp_path: Path) -> None:
    make(tmp_path, *many("train/a"), *many("train/b"), *many("val/a"), *many("val/ox"))
    refused(tmp_path, "VIT-307", "val/ has classes that train/ has not: ox")


def test_split_folders_twice_or_without_train(tmp_path: Path) -> None:
    make(tmp_path / "x", *many("train/a"), *many("train/b"), *many("val/a"), *many("valid/a"))
    refused(tmp_path / "x", "VIT-307", "both val and valid")
    make(tmp_path / "y", *many("test/a"), *many("test/b"))
    refused(tmp_path / "y", "VIT-307", "no train/")


def test_hidden_folders_and_files_that_are_no_images(tmp_path: Path) -> None:
    make(
        tmp_path,
        *many("cat", 9),
        *many("dog", 9),
        ".ipynb_checkpoints/a.jpg",
        "__MACOSX/a.jpg",
        "cat/.hidden.jpg",
        "cat/Thumbs.db",
        "dog/a.txt",
        "dog/b.txt",
        "loose.PNG",
        "cat/.ipynb_checkpoints/00.jpg",
        "dog/more/x.JPEG",
        "dog/IMG_1",
    )
    (tmp_path / "dog" / "README").write_text("BMP files are not read by their first letters")
    (tmp_path / "dog" / "linked").symlink_to("../cat")
    (tmp_path / "dog" / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "dog" / "pipe")
    splits = open_data(tmp_path)
    assert splits.classes == ("cat", "dog")
    assert len(paths(splits)) == 20
    assert {"dog/more/x.JPEG", "dog/IMG_1"} <= set(paths(splits))
    left_out, nested = splits.notes
    assert left_out == (
        "left out: 1 image next to the class folders (loose.PNG); 4 files that are not images "
        "(2 .txt, 1 .db, 1 without ending); 4 hidden names (.ipynb_checkpoints, __MACOSX, "
        "cat/.hidden.jpg, ...); 1 link to a folder, not followed (dog/linked); 1 broken link "
        "(dog/broken); 1 pipe, socket or device (dog/pipe)"
    )
    assert nested == "1 image in folders below a class folder, counted for that class (dog/more)."


def test_unused_folders_beside_train_are_noted(tmp_path: Path) -> None:
    make(tmp_path, *many("train/a"), *many("train/b"), *many("val/a"), *many("unlabelled"))
    assert open_data(tmp_path).notes == (
        "left out: 1 folder next to train (unlabelled/ with 4 images)",
        "val has no images of 1 class: b.",
    )


def test_strange_entries_are_listed_and_named_when_read(tmp_path: Path) -> None:
    make(tmp_path / "photos", *many("cat"), *many("dog"), "cat/heic.HEIC")
    secret = make(tmp_path, "secret.jpg") / "secret.jpg"
    cat = tmp_path / "photos" / "cat"
    (cat / "out.jpg").symlink_to(secret)
    (cat / "gone.jpg").symlink_to("nowhere.jpg")
    (cat / "folder.jpg").mkdir()
    os.mkfifo(cat / "pipe.jpg")
    (cat / "fine.jpg").symlink_to("00.jpg")
    splits = open_data(tmp_path / "photos", val_fraction=0, test_fraction=0)
    reasons = {}
    for index in range(len(splits.train)):
        started = time.perf_counter()
        try:
            splits.train.read(index)
        except DecodeFault as fault:
            reasons[Path(splits.train.source_id(index)).name] = fault.reason
        assert time.perf_counter() - started < 1
    assert "link out of" in reasons.pop("out.jpg")
    assert "is a folder" in reasons.pop("folder.jpg")
    assert "pipe" in reasons.pop("pipe.jpg")
    assert reasons.pop("gone.jpg")
    assert reasons == {}
    assert "cat/heic.HEIC" in paths(splits)


def test_links_to_folders(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", *many("fox"))
    root = make(tmp_path / "photos", *many("cat"), *many("dog"))
    (root / "tom").symlink_to("cat")
    (root / "cat" / "up").symlink_to("..")
    splits = open_data(root)
    assert splits.classes == ("cat", "dog", "tom")
    assert any(
        "2 links to folders, not followed (cat/up, tom/up)" in note for note in splits.notes
    )  # cat/up, tom/up
    (root / "fox").symlink_to(outside / "fox")
    refused(root, "VIT-309", "link out of")
    split = make(tmp_path / "split", *many("val/fox"))
    make(outside, *many("ox"))
    (split / "train").symlink_to(outside)
    refused(split, "VIT-309", "link out of")
    linked = tmp_path / "linked"
    linked.symlink_to(outside)
    assert open_data(linked).classes == ("fox", "ox")  # the data itself may be a link


def test_two_spellings_of_one_name_collide_and_nfd_becomes_nfc(tmp_path: Path) -> None:
    nfc, nfd = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    make(tmp_path / "x", *many(nfd), *many("tea"))
    splits = open_data(tmp_path / "x")
    assert splits.classes == (nfc, "tea")
    assert splits.train.read(0)[0].startswith(PNG)  # type: ignore[union-attr]
    make(tmp_path / "y", *many(nfd), *many(nfc))
    refused(tmp_path / "y", "VIT-308", "two folders")


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    make(tmp_path, *many("a"), *many("b"))
    with open(os.fsencode(tmp_path) + b"/a/\xff\x1b[31m.jpg", "wb") as file:
        file.write(PNG)
    splits = open_data(tmp_path, val_fraction=0, test_fraction=0)
    names = [splits.train.source_id(k) for k in range(len(splits.train))]
    odd = next(k for k, name in enumerate(names) if "31m" in name)
    assert names[odd] == "a/\\xff\\x1b[31m.jpg"
    assert splits.train.read(odd)[0] == PNG
    os.mkdir(os.fsencode(tmp_path) + b"/\xfe")
    refused(tmp_path, "VIT-308", "not valid UTF-8")


def test_is_image() -> None:
    assert all(map(is_image, ["a.jpg", "a.JPEG", "a.b.Png", "x.tiff", "x.webp", "x.heic"]))
    assert not any(map(is_image, ["a", "a.txt", ".a.jpg", "jpg", "a.jpg.txt", "Thumbs.db"]))


@pytest.mark.promise("D6")
@given(st.lists(st.text("aAbB\u00e9e\u0301z", min_size=1, max_size=4), min_size=2, max_size=6))
@settings(max_examples=30, deadline=None)
def test_class_index_is_a_function_of_the_names(names: list[str]) -> None:
    """Any order of creation gives the same classes: the sorted set of normalised names."""
    import tempfile

    unique = {class_name(name, ""): name for name in names}
    if len(unique) < 2:
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), *(f"{name}/0.jpg" for name in unique.values()))
        splits = open_data(folder, val_fraction=0, test_fraction=0)
    assert splits.classes == tuple(sorted(unique))
    for index, label in enumerate(splits.train.labels):
        assert (
            class_name(Path(splits.train.source_id(index)).parent.name, "") == splits.classes[label]
        )


@pytest.mark.data
def test_caltech_opens_quickly(shared_data: Path) -> None:
    started = time.perf_counter()
    splits = open_data(shared_data / "caltech101")
    assert time.perf_counter() - started < 2
    assert (len(splits.classes), len(splits.train)) == (101, 1010)
    assert splits.val is not None
    assert splits.test is None


def splits_in(root: Path, train: str, *others: str) -> Splits:
    """Two classes in each of these folders."""
    make(root, *(name for top in (train, *others) for c in "ab" for name in many(f"{top}/{c}")))
    return open_data(root)


@pytest.mark.promise("D7")
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "VALID", "TEST"),
        ("train_set", "dev_set", "test_set"),
        ("training_set", "validation_set", "testing_set"),
        ("trainset", "valset", "testset"),
        ("train-images", "val images", "TestImages"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("seg_train", "seg_val", "seg_test/seg_test"),
        ("mnist_train", "mnist_valid", "mnist_test"),
        ("train2017", "val2017", "test2017"),
        ("train", "eval", "test"),
        ("train/train", "val/val", "test/test"),
    ],
)
def test_split_folders_by_any_usual_name(tmp_path: Path, train: str, val: str, test: str) -> None:
    splits = splits_in(tmp_path, train, val, test)
    assert splits.classes == ("a", "b")
    assert splits.how == "train, val, test as given"
    for part, folder in zip(("train", "val", "test"), (train, val, test), strict=True):
        assert splits.parts()[part].source_id(0) == f"{folder}/a/00.jpg"
        name = folder.partition("/")[0]
        is_told = any(f"{name} is the {part} split" in note for note in splits.notes)
        assert is_told == (name.lower() not in ("train", "val", "valid", "validation", "test"))


def test_eval_is_the_test_split_where_there_is_none(tmp_path: Path) -> None:
    splits = splits_in(tmp_path, "train", "eval")
    assert splits.test is not None
    assert splits.notes == ("detected from their names: eval is the test split.",)
    make(tmp_path, *many("test/a"), *many("val/a"))
    refused(tmp_path, "VIT-307", "which split is eval?")


@pytest.mark.promise("D7")
def test_a_class_called_as_a_split(tmp_path: Path) -> None:
    make(tmp_path / "x", *many("bus"), *many("car"), *many("train/steam"), *many("train/diesel"))
    refused(tmp_path / "x", "VIT-307", "bus/, car/: is train/ the training split or a class?")
    make(tmp_path / "y", *many("bus"), *many("car"), *many("test/crash"), *many("test/unit"))
    refused(tmp_path / "y", "VIT-307", "no train/ with class folders")
    make(tmp_path / "z", *many("bullet_train/a"), *many("steam_train/b"), *many("bus/c"))
    assert open_data(tmp_path / "z").classes == ("bullet_train", "bus", "steam_train")
    make(tmp_path / "k", *many("train/a"), *many("train/b"), *many("test"))  # as Kaggle has it
    assert open_data(tmp_path / "k").notes == (
        "left out: 1 folder next to train (test/ with 4 images)",
    )


def test_splits_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    make(tmp_path, *many("Training"), *many("Testing"))
    refused(tmp_path, "VIT-302", "Testing/, Training/ are named like splits")


def test_folders_above_the_classes_are_asked_about(tmp_path: Path) -> None:
    (note,) = splits_in(tmp_path, "Lernen", "Pruefen").notes
    assert "16 images in folders below a class folder" in note
    assert "If a, b are the classes, name the folders above train and test." in note


def test_what_is_too_deep_is_told(tmp_path: Path) -> None:
    make(tmp_path, *many("a"), *many("b"), "b/" + "/".join("12345678") + "/9/x.jpg")
    assert open_data(tmp_path).notes == (
        "left out: 1 folder more than 8 levels down (b/1/2/3/4/5/6/7/8/9)",
    )


def test_what_lies_next_to_the_inner_folder_of_a_split_is_told(tmp_path: Path) -> None:
    make(
        tmp_path, *(f"seg_{part}/seg_{part}/{c}/0.png" for part in ("train", "test") for c in "ab")
    )
    (tmp_path / "seg_train" / "read.me").write_text("x")
    assert open_data(tmp_path).notes[1] == "left out: 1 file that is not an image (1 .me)"

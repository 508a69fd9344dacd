"""Planted copies are found across splits, by name; distinct images are left alone."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.check.check_data import alike_firsts, check
from vitrail.data.check.duplicates import (
    DuplicateGroup,
    DuplicateMember,
    chains_of,
    write_duplicates,
)
from vitrail.data.check.near_duplicates import Copy
from vitrail.data.sources.open_data import ArraySource, Splits, open_data

EXACT = SAVED_AGAIN = 50


def digits(count: int) -> list[Image.Image]:
    """The first `count` of the built-in digits."""
    images = [
        one.images
        for one in open_data("builtin:digits").parts().values()
        if isinstance(one, ArraySource)
    ]
    return [Image.fromarray(one[:, :, 0]) for one in np.concatenate(images)[:count]]


def written_again(image: Image.Image, number: int) -> tuple[str, bytes]:
    """Another file of the same image: (suffix, bytes)."""
    double = image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    kind = number % 5
    if kind < 2:
        image.save(stream, "JPEG", quality=(75, 95)[kind])
    elif kind == 2:
        image.convert("RGB").save(stream, "WEBP", quality=80)
    else:
        double.save(stream, ("PNG", "JPEG")[kind - 3], quality=85)
    return (".jpg", ".jpg", ".webp", ".png", ".jpg")[kind], stream.getvalue()


def planted(root: Path) -> Path:
    """1,000 distinct digits, 600 train and 400 val; of 100 train digits val has a copy as well."""
    for number, image in enumerate(digits(1000)):
        folder = root / ("train" if number < 600 else "val") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number:04d}.png")
        if number < EXACT:
            (root / "copy").mkdir(exist_ok=True)
            (root / "copy" / f"exact{number:04d}.png").write_bytes(
                (folder / f"{number:04d}.png").read_bytes()
            )
        elif number < EXACT + SAVED_AGAIN:
            suffix, data = written_again(image, number)
            (root / "copy" / f"again{number:04d}{suffix}").write_bytes(data)
    for path in sorted((root / "copy").iterdir()):
        path.rename(root / "val" / "ab"[int(path.stem[5:]) % 2] / path.name)
    (root / "copy").rmdir()
    return root


@pytest.mark.promise("D5")
def test_planted_copies_across_splits_are_found(tmp_path: Path) -> None:
    report = check(open_data(planted(tmp_path), test_fraction=0))
    found = {"exact": 0, "again": 0}
    for group in report.groups:
        assert group.splits == {"train", "val"}
        assert not group.is_conflict
        original, copied = group.members
        kind, number = Path(copied.source).name[:5], Path(copied.source).name[5:9]
        assert Path(original.source).stem == number
        assert group.is_exact == (kind == "exact")
        found[kind] += 1
    assert found["exact"] == EXACT
    assert found["again"] >= 0.95 * SAVED_AGAIN
    assert report.leaked == {"val": sum(found.values())}
    told = [one for one in report.problems if "near-duplicate in another split" in one]
    assert len(told) == 1
    assert "train/a/0050.png = val: val/a/again0050.jpg" in told[0]
    assert any(
        f"{sum(found.values())} of 500 val images (20.0 %) are also in train" in one
        for one in report.problems
    )


@pytest.mark.promise("D5")
def test_no_two_of_all_digits_are_taken_for_copies() -> None:
    report = check(open_data("builtin:digits"))
    assert report.groups == ()
    assert report.leaked == {}
    assert report.problems == []


def test_copies_with_other_labels_and_within_a_split(tmp_path: Path) -> None:
    images = digits(40)
    for number, image in enumerate(images):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{number:02d}.png")
    images[4].save(tmp_path / "b" / "wrong.bmp")
    images[6].resize((16, 16), Image.Resampling.BICUBIC).save(tmp_path / "a" / "big.png")
    images[8].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "a" / "turned.png")
    report = check(open_data(tmp_path, val_fraction=0, test_fraction=0))
    told = {
        tuple(one.source for one in group.members): group.members[1].kind for group in report.groups
    }
    assert told == {
        ("a/04.png", "b/wrong.bmp"): "copy",
        ("a/06.png", "a/big.png"): "copy",
        ("a/08.png", "a/turned.png"): "mirrored",
    }
    assert report.duplicates == report.leakage == report.conflicts == []
    problems = " ".join(report.problems)
    assert (
        "1 image has a near-duplicate with another label: a/04.png (a) = b/wrong.bmp (b)"
        in problems
    )
    assert "3 images have a near-duplicate in the same split" in problems
    headers = check(open_data(tmp_path, val_fraction=0, test_fraction=0), pixels=False)
    assert headers.groups == ()


def test_copies_of_copies_make_one_group() -> None:
    found = [
        Copy(7, 2, "mirrored", 0.1),
        Copy(7, 9, "mirrored", 0.1),
        Copy(4, 5, "copy", 0.1),
        Copy(9, 11, "recoloured", 0.1),
    ]
    assert chains_of(found) == [
        [(2, "equal"), (7, "mirrored"), (9, "copy"), (11, "recoloured")],
        [(4, "equal"), (5, "copy")],
    ]
    assert chains_of([]) == []


def test_the_table_has_a_line_for_each_image(tmp_path: Path) -> None:
    pair = (
        DuplicateMember("train", 3, "a/x.png", "a"),
        DuplicateMember("val", 0, 'b/"y".png', "b", "mirrored"),
    )
    group = DuplicateGroup(pair, is_exact=False)
    assert group.is_leakage
    assert group.is_conflict
    assert [str(one) for one in pair] == ["train: a/x.png", 'val: b/"y".png (mirrored)']
    out = write_duplicates(
        [group, DuplicateGroup(pair[:1], is_exact=True)], tmp_path / "duplicates.csv"
    )
    rows = list(csv.reader(out.read_text(encoding="utf-8").splitlines()))
    assert rows == [
        ["group", "kind", "split", "source", "label"],
        ["1", "equal", "train", "a/x.png", "a"],
        ["1", "mirrored", "val", 'b/"y".png', "b"],
        ["2", "equal", "train", "a/x.png", "a"],
    ]


@pytest.mark.data
@pytest.mark.slow
def test_fashion_mnist_and_photos(shared_data: Path) -> None:
    report = check(open_data(shared_data / "fashion_mnist"))
    copied = [group for group in report.groups if not group.is_exact]
    assert 100 <= len(copied) <= 250  # real ones: looked at by eye, see docs/report.md
    report = check(open_data(shared_data / "caltech101"), workers=2)
    names = [{one.source for one in group.members} for group in report.groups]
    assert {"train/octopus/image_0018.jpg", "val/octopus/image_0035.jpg"} in names
    assert len(names) <= 8


@pytest.mark.promise("D5")
def test_a_split_keeps_near_duplicates_together(tmp_path: Path) -> None:
    for number, image in enumerate(digits(80)):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{number:04d}.png")
        suffix, data = written_again(image, number)
        (folder / f"{number:04d}again{suffix}").write_bytes(data)

    def torn(splits: Splits) -> list[str]:
        lies = {
            (Path(part.source_id(i)).stem[:4], name)
            for name, part in splits.parts().items()
            for i in range(len(part))
        }
        numbers = [number for number, _ in lies]
        return [number for number in numbers if numbers.count(number) > 1]

    assert torn(open_data(tmp_path))
    splits = open_data(tmp_path, alike=alike_firsts)
    assert not torn(splits)
    assert "80 that are near-duplicates of another lie in one split with it" in splits.how
    assert splits.counts() == {"train": 116, "val": 20, "test": 24}

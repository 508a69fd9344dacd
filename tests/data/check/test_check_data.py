"""check finds what was planted, and nothing in clean data."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.odd_images import encoded, noise
from vitrail.data.check.check_data import (
    DataReport,
    check,
    inspect_images,
    require_good,
    usable,
    write_bad_files,
)
from vitrail.data.sources.open_data import open_data
from vitrail.data.sources.source import ArraySource, FileSource, Splits
from vitrail.errors import DataError


def photos(root: Path, per_class: dict[str, int]) -> Path:
    """Distinct colour images of 40 x 50 px: folder -> how many."""
    seed = 0
    for folder, number in per_class.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(number):
            seed += 1
            (root / folder / f"{k:02d}.png").write_bytes(encoded(noise(40, 50, seed=seed), "PNG"))
    return root


def finding(report: DataReport, words: str) -> str:
    """The one problem that contains `words`."""
    found = [problem for problem in report.problems if words in problem]
    assert len(found) == 1, report.problems
    return found[0]


@pytest.mark.parametrize("workers", [0, 3])
def test_clean_data_has_no_problems(tmp_path: Path, workers: int) -> None:
    photos(tmp_path, {"a": 20, "b": 20})
    report = check(open_data(tmp_path), workers=workers)
    assert report.problems == []
    assert report.bad_files == []
    assert report.splits == {"train": 29, "val": 5, "test": 6}
    assert report.per_class["a"] == {"train": 14, "val": 3, "test": 3}
    assert report.per_class["b"] == {"train": 15, "val": 2, "test": 3}
    assert report.sizes == {
        "height_min": 40,
        "height_median": 40,
        "height_max": 40,
        "width_min": 50,
        "width_median": 50,
        "width_max": 50,
    }
    assert not report.all_gray
    assert report.imbalance == 1.07  # 15 images and 14
    record = json.loads(json.dumps(report.to_json()))
    assert record["per_class"] == report.per_class
    assert len(record["fingerprints"]["train"]) == 64


def test_bad_files_are_all_named_with_reasons(tmp_path: Path) -> None:
    photos(tmp_path, {"a": 12, "b": 12})
    good = (tmp_path / "a" / "00.png").read_bytes()
    planted = {"a/x.jpg": b"<html>", "a/empty.png": b"", "b/cut.png": good[:100]}
    for name, data in planted.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "b" / "folder.png").mkdir()
    splits = open_data(tmp_path)
    report = check(splits)
    assert sorted(name for name, _ in report.bad_files) == sorted([*planted, "b/folder.png"])
    reasons = dict(report.bad_files)
    assert "HTML page" in reasons["a/x.jpg"]
    assert reasons["b/cut.png"] == f"truncated file (100 of {len(good)} bytes)"
    assert sum(report.bad_per_split.values()) == 4
    assert "4 of 28 images cannot be decoded" in finding(report, "--on-bad-file skip")
    out = write_bad_files(report.bad_files, tmp_path / "bad_files.csv")
    rows = list(csv.reader(out.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["path", "reason"]
    assert [tuple(row) for row in rows[1:]] == report.bad_files


@pytest.mark.promise("D4")
def test_usable_is_the_source_without_the_bad_files(tmp_path: Path) -> None:
    photos(tmp_path, {"a": 6, "b": 6})
    clean = open_data(tmp_path, val_fraction=0, test_fraction=0).train
    same, bad = usable(clean)
    assert isinstance(same, FileSource)
    assert isinstance(clean, FileSource)
    assert same.paths == clean.paths
    assert same.digests is not None  # each was read, so its content is known
    assert bad == []
    (tmp_path / "a" / "bad.png").write_bytes(b"no")
    (tmp_path / "b" / "zz.png").write_bytes(b"")
    kept, bad = usable(open_data(tmp_path, val_fraction=0, test_fraction=0).train, workers=2)
    assert [name for name, _ in bad] == ["a/bad.png", "b/zz.png"]
    assert [kept.source_id(k) for k in range(len(kept))] == [
        clean.source_id(k) for k in range(len(clean))
    ]
    assert kept.labels.tolist() == clean.labels.tolist()
    with pytest.raises(DataError, match="2 of 14 images cannot be decoded") as caught:
        require_good(bad, 14, "runs/x/bad_files.csv")
    assert caught.value.code == "VIT-301"
    assert "a/bad.png   is text" in caught.value.message
    assert "runs/x/bad_files.csv" in caught.value.hint
    require_good([], 14)


@pytest.mark.promise("D5")
def test_planted_duplicates_and_leaks_are_all_found(tmp_path: Path) -> None:
    photos(tmp_path, {"train/a": 20, "train/b": 20, "val/a": 12, "val/b": 12})
    for k in range(10):
        leak = tmp_path / "train" / "a" / f"{k:02d}.png"
        (tmp_path / "val" / "a" / f"leak{k}.png").write_bytes(leak.read_bytes())
    twin = (tmp_path / "train" / "b" / "05.png").read_bytes()
    (tmp_path / "train" / "b" / "twin.png").write_bytes(twin)
    wrong = (tmp_path / "train" / "a" / "19.png").read_bytes()
    (tmp_path / "train" / "b" / "wrong.png").write_bytes(wrong)
    report = check(open_data(tmp_path))
    assert len(report.leakage) == 10
    expected = ["train: train/a/03.png", "val: val/a/leak3.png"]
    assert expected in report.leakage
    assert ["train/b/05.png", "train/b/twin.png"] in report.duplicates
    assert report.conflicts == [["train/a/19.png (a)", "train/b/wrong.png (b)"]]
    assert "10 images are in several splits" in finding(report, "several splits")
    finding(report, "different labels")


@pytest.mark.promise("D5")
def test_distinct_digits_have_no_duplicates() -> None:
    report = check(open_data("builtin:digits"))
    assert (report.duplicates, report.leakage, report.conflicts) == ([], [], [])
    assert report.all_gray
    assert report.problems == []
    assert report.sizes["height_median"] == report.sizes["width_median"] == 8


def test_equal_arrays_are_found() -> None:
    images = np.stack([noise(6, 7, seed=k) for k in (0, 1, 0, 2)])
    source = ArraySource("x", ("a", "b"), np.array([0, 1, 1, 0]), images, "train-images")
    report = check(Splits("x", ("a", "b"), source, None, None, "", "arrays"))
    assert report.conflicts == [["train-images:0 (a)", "train-images:2 (b)"]]


def test_unbalanced_small_and_absent_classes(tmp_path: Path) -> None:
    photos(tmp_path, {"train/big": 45, "train/few": 4, "train/Big ": 5, "val/big": 2})
    report = check(open_data(tmp_path))
    assert report.imbalance == 11.25
    assert report.few == ["few"]
    assert report.absent == {"val": ["Big ", "few"]}
    finding(report, "11.25 times")
    finding(report, "1 class has fewer than 5 training images: few")
    finding(report, "val has no images of 2 classes")
    finding(report, "differ only in case, spaces")


def test_gray_tiny_and_huge_images_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path, {"a": 8, "b": 8})
    (tmp_path / "a" / "gray.png").write_bytes(encoded(noise(40, 50, 1), "PNG"))
    (tmp_path / "a" / "tiny.png").write_bytes(encoded(noise(31, 90), "PNG"))
    (tmp_path / "b" / "huge.png").write_bytes(encoded(Image.new("RGB", (300, 200), "red"), "PNG"))
    monkeypatch.setattr("vitrail.data.check.check_data.HUGE_PIXELS", 50_000)
    report = check(open_data(tmp_path))
    assert (report.num_gray, report.num_tiny, report.num_huge) == (1, 1, 1)
    finding(report, "1 of 19 images are gray")
    gray = tmp_path / "gray"
    for k in range(8):
        path = gray / "xy"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(noise(40, 50, 1, seed=k), "PNG"))
    report = check(open_data(gray, val_fraction=0, test_fraction=0))
    assert report.all_gray
    assert not [problem for problem in report.problems if "gray" in problem]


def test_channel_statistics_are_those_of_the_pixels(tmp_path: Path) -> None:
    source = open_data("builtin:digits").train
    assert isinstance(source, ArraySource)
    report = check(open_data("builtin:digits"))
    assert report.mean == pytest.approx([float((source.images / 255).mean())], abs=1e-5)
    assert report.std == pytest.approx([float((source.images / 255).std())], abs=1e-5)
    photos(tmp_path, {"a": 5, "b": 5})
    splits = open_data(tmp_path, val_fraction=0, test_fraction=0)
    pixels = np.stack([noise(40, 50, seed=k) for k in range(1, 11)]) / 255
    report = check(splits)
    assert report.mean == pytest.approx(pixels.mean((0, 1, 2)).tolist(), abs=1e-5)
    assert report.std == pytest.approx(pixels.std((0, 1, 2)).tolist(), abs=1e-5)


def test_headers_alone_find_sizes_and_other_formats(tmp_path: Path) -> None:
    photos(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / "x.jpg").write_bytes(b"%PDF-1.4")
    source = open_data(tmp_path, val_fraction=0, test_fraction=0).train
    looks = inspect_images(source, pixels=False)
    assert {look.size for look in looks if not look.reason} == {(40, 50)}
    assert [look.reason for look in looks if look.reason][0].startswith("is a PDF document")
    assert all(look.digest for look in looks if not look.reason)


def test_limits_are_passed_on(tmp_path: Path) -> None:
    photos(tmp_path, {"a": 4, "b": 4})
    report = check(open_data(tmp_path), max_pixels=1999)
    assert {reason for _, reason in report.bad_files} == {"2000 pixels; limit 1999 (--max-pixels)"}
    assert report.sizes == {}
    assert report.mean == []


def test_several_labels() -> None:
    labels = np.array([[1, 1], [0, 1], [0, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    images = np.stack([noise(6, 7, seed=k) for k in range(6)])
    source = ArraySource("x", ("a", "b"), labels, images)
    splits = Splits("x", ("a", "b"), source, None, None, "", "arrays", multi_label=True)
    report = check(splits)
    assert report.per_class == {"a": {"train": 1}, "b": {"train": 5}}
    assert report.few == ["a"]


@pytest.mark.data
def test_caltech(shared_data: Path) -> None:
    started = time.perf_counter()
    report = check(open_data(shared_data / "caltech101"), workers=2)
    assert time.perf_counter() - started < 20
    assert report.bad_files == []
    assert report.num_gray == 126  # the data's README: about 8 %
    assert report.leakage == []

"""`vitrail data shard` and `vitrail data index` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.cli_command import run
from tests.data.class_folders import class_folders, picture, webdataset
from vitrail.api.shards import bytes_of
from vitrail.errors import UsageError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data") / "photos", 6)


def test_shard_index_and_every_look_at_them(photos: Path, tmp_path: Path) -> None:
    shards, tars, index = tmp_path / "shards", tmp_path / "tars", tmp_path / "idx"
    made = run("data", "shard", str(photos), str(shards), "--shard-bytes", "100K", "--json")
    assert made.code == 0, made.err
    told = json.loads(made.out)
    assert (told["classes"], told["counts"], told["bad_files"]) == (3, {"train": 19}, [])
    assert told["bytes"] == sum(path.stat().st_size for path in shards.glob("*.tar"))
    webdataset(photos, tars)
    done = run("data", "index", str(tars), "--out", str(index))
    assert done.code == 0, done.err
    assert f"next  vitrail train {index}" in done.out
    for data in (shards, index, shards / "index.dat"):
        checked = run("data", "check", str(data))
        assert checked.code == 0, checked.err
        assert "1 image" in checked.out  # the copy
        split = run("data", "split", str(data), str(tmp_path / f"{data.name}.csv"))
        assert split.code == 0, split.err
        assert "arrays" not in split.out
        shown = run("data", "show", str(data), "--out", str(tmp_path / f"{data.name}.png"))
        assert shown.code == 0, shown.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--shard-bytes", "5"), "VIT-202", "100K to 8G"),
        (("--shard-bytes", "many"), "VIT-202", "256M"),
        (("--short-side", "-3"), "VIT-202", "--short-side"),
        (("--short-side", "7"), "VIT-202", "--short-side 256"),
    ],
)
def test_values_that_cannot_be(
    photos: Path, tmp_path: Path, words: tuple[str, str], code: str, text: str
) -> None:
    found = run("data", "shard", str(photos), str(tmp_path / "out"), *words)
    assert found.code == 2
    assert code in found.err
    assert text in found.err
    assert not (tmp_path / "out").exists()


def test_bad_images_are_listed(photos: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "bad", 2)
    (tmp_path / "bad" / "fox" / "x.jpg").write_bytes(picture(0, (1, 2, 3))[:99])
    stopped = run("data", "shard", str(tmp_path / "bad"), str(tmp_path / "out"))
    assert (stopped.code, "fox/x.jpg" in stopped.err) == (3, True)
    skipped = run(
        "data", "shard", str(tmp_path / "bad"), str(tmp_path / "out"), "--on-bad-file", "skip"
    )
    assert skipped.code == 0, skipped.err
    assert "left out  fox/x.jpg" in skipped.out


def test_shards_without_an_index_are_told_apart(photos: Path, tmp_path: Path) -> None:
    webdataset(photos, tmp_path / "tars")
    found = run("train", str(tmp_path / "tars"))
    assert found.code == 3
    assert f"vitrail data index {tmp_path / 'tars'} --out IDX" in found.err


def test_sizes_as_people_write_them() -> None:
    assert [bytes_of(text) for text in ("256M", "1g", "100KB", "123456")] == [
        256_000_000,
        10**9,
        100_000,
        123_456,
    ]
    with pytest.raises(UsageError):
        bytes_of("9G")

"""Shards of others, indexed as they are; hostile and damaged ones are refused (A17, A20)."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.class_folders import class_folders, parquet_of, picture, tar_of, webdataset
from vitrail.data.indexing.foreign import index_shards
from vitrail.data.indexing.shard_making import ShardOptions
from vitrail.data.shards.store import Descriptor
from vitrail.data.shards.tar import BLOCK, members
from vitrail.data.sources.digest import digests_of, names_of
from vitrail.data.sources.open_data import open_whole
from vitrail.data.sources.source import Splits
from vitrail.errors import DataError

RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data") / "photos", 8)


def indexed(folder: Path, *, skip_bad: bool = False) -> Splits:
    """The splits of an index made beside `folder`."""
    out = folder.with_name(f"{folder.name}-index")
    index_shards(folder, out, ShardOptions(skip_bad=skip_bad))
    return open_whole(out)


def refused(folder: Path, code: str, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        indexed(folder)
    assert caught.value.code == code, str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert not folder.with_name(f"{folder.name}-index").exists()


def test_a_webdataset_is_the_folder_that_it_was_made_of(photos: Path, tmp_path: Path) -> None:
    webdataset(photos, tmp_path / "tars")
    before = {path: path.read_bytes() for path in (tmp_path / "tars").iterdir()}
    splits, folder = indexed(tmp_path / "tars"), open_whole(photos)
    assert splits.classes == folder.classes
    assert names_of(splits.train) == names_of(folder.train)
    assert splits.train.labels.tolist() == folder.train.labels.tolist()
    assert digests_of(splits.train).tolist() == digests_of(folder.train).tolist()
    assert before == {path: path.read_bytes() for path in (tmp_path / "tars").iterdir()}


def test_labels_are_found_in_json_and_as_names(tmp_path: Path) -> None:
    rows = [
        ("0.jpg", picture(0, RED)),
        ("0.json", json.dumps({"label": 7}).encode()),
        ("1.jpg", picture(1, BLUE)),
        ("1.json", json.dumps({"caption": "x", "class_name": "blue"}).encode()),
        ("2.png", picture(2, RED, "PNG")),
        ("2.cls", b"7\n"),
        ("README.txt", b"hello"),
    ]
    tar_of(tmp_path / "tars" / "0.tar", rows)
    splits = indexed(tmp_path / "tars")
    assert splits.classes == ("7", "blue")
    assert splits.train.labels.tolist() == [0, 0, 1]


def test_several_labels(tmp_path: Path) -> None:
    rows = [(f"{k}.jpg", picture(k, RED)) for k in range(3)]
    for k, own in enumerate([[0, 2], [1], []]):
        rows.append((f"{k}.json", json.dumps({"labels": own}).encode()))
    tar_of(tmp_path / "tars" / "0.tar", rows)
    splits = indexed(tmp_path / "tars")
    assert splits.multi_label
    by_name = dict(zip(names_of(splits.train), splits.train.labels.tolist(), strict=True))
    assert by_name == {"0.jpg": [1, 0, 1], "1.jpg": [0, 1, 0], "2.jpg": [0, 0, 0]}


def test_splits_by_the_info_of_timm_and_by_names(photos: Path, tmp_path: Path) -> None:
    webdataset(photos, tmp_path / "tars", shards=2)
    files = {"train": ["part-000.tar"], "validation": ["part-001.tar"]}
    info = {"splits": {name: {"filenames": own} for name, own in files.items()}}
    (tmp_path / "tars" / "_info.json").write_text(json.dumps(info))
    told = indexed(tmp_path / "tars").counts()
    assert set(told) == {"train", "val"}
    for shard, name in (("part-000", "data-train-0"), ("part-001", "data-val-0")):
        (tmp_path / "tars" / f"{shard}.tar").rename(tmp_path / "tars" / f"{name}.tar")
    (tmp_path / "tars" / "_info.json").unlink()
    (tmp_path / "tars").rename(tmp_path / "again")
    assert indexed(tmp_path / "again").counts() == told


def headers(path: Path) -> list[tuple[str, int, int]]:
    file = Descriptor(str(path))
    return [(one.name, one.offset, one.size) for one in members(file.number)]


def energon(path: Path, of: Path) -> None:
    """Where the samples of `of` begin and the last one ends, as Megatron-Energon writes it."""
    starts = [offset - BLOCK for name, offset, _ in headers(of) if not name.endswith(".cls")]
    path.with_name(f"{path.name}.idx").write_bytes(
        struct.pack(f"<{len(starts) + 1}Q", *starts, of.stat().st_size)
    )


def webshart(path: Path, of: Path) -> None:
    files = {name: {"offset": offset, "length": size} for name, offset, size in headers(of)}
    path.with_suffix(".json").write_text(json.dumps({"files": files}))


@pytest.mark.parametrize("write", [energon, webshart])
def test_indices_of_others_are_compared(
    photos: Path, tmp_path: Path, write: Callable[[Path, Path], None]
) -> None:
    webdataset(photos, tmp_path / "tars", shards=2)
    first, second = sorted((tmp_path / "tars").glob("*.tar"))
    for path in (first, second):
        write(path, path)
    assert len(indexed(tmp_path / "tars").train) == 25
    (tmp_path / "tars").rename(tmp_path / "wrong")
    write(tmp_path / "wrong" / first.name, tmp_path / "wrong" / second.name)
    refused(tmp_path / "wrong", "VIT-332", "index of another tar", first.name)


def test_what_cannot_be_indexed_is_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "VIT-334", "no shards", "KEY.cls")
    refused(tmp_path / "absent", "VIT-303")
    tar_of(tmp_path / "bare" / "a.tar", [("1.jpg", picture(1, RED))])
    refused(tmp_path / "bare", "VIT-334", "a.tar", "sample 1 has no label")
    tar_of(tmp_path / "two" / "a.tar", [("1.jpg", b"x"), ("1.png", b"y"), ("1.cls", b"0")])
    refused(tmp_path / "two", "VIT-334", "2 images")
    tar_of(tmp_path / "twice" / "a.tar", [("1.jpg", b"x"), ("1.jpg", b"x")])
    refused(tmp_path / "twice", "VIT-332", "twice")
    tar_of(tmp_path / "text" / "a.tar", [("1.jpg", b"x"), ("1.json", b"{")])
    refused(tmp_path / "text", "VIT-334", ".json of sample 1")
    tar_of(tmp_path / "few" / "a.tar", [("1.jpg", picture(1, RED)), ("1.cls", b"5")])
    (tmp_path / "few" / "classes.txt").write_text("a\nb\n")
    refused(tmp_path / "few", "VIT-334", "label 5", "2 names")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "a.tar.gz").write_bytes(b"\x1f\x8b")
    refused(tmp_path / "packed", "VIT-334", "packed")


def test_hostile_tars_are_refused_with_their_name(tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "bad.tar", "w") as archive:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    refused(tmp_path / "tars", "VIT-332", "bad.tar", "symbolic link")


def test_images_that_cannot_be_decoded_are_named_or_left_out(tmp_path: Path) -> None:
    rows = [("0.jpg", picture(0, RED)), ("0.cls", b"0")]
    rows += [("1.jpg", picture(1, BLUE)), ("1.cls", b"1")]
    rows += [("2.jpg", picture(2, BLUE)[:200]), ("2.cls", b"1")]
    tar_of(tmp_path / "tars" / "a.tar", rows)
    refused(tmp_path / "tars", "VIT-301", "a.tar#2.jpg")
    splits = indexed(tmp_path / "tars", skip_bad=True)
    assert len(splits.train) == 2
    assert "1 image" in " ".join(splits.notes)


def test_an_index_whose_shards_were_moved_says_so(photos: Path, tmp_path: Path) -> None:
    webdataset(photos, tmp_path / "tars")
    source = indexed(tmp_path / "tars").train
    (tmp_path / "tars").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"part-000.tar") as caught:
        source.read(0)
    assert caught.value.code == "VIT-333"


def test_parquet_is_the_folder_that_it_was_made_of(photos: Path, tmp_path: Path) -> None:
    parquet_of(photos, tmp_path / "files" / "train-00000-of-00001.parquet", 7)
    splits, folder = indexed(tmp_path / "files"), open_whole(photos)
    assert splits.classes == folder.classes
    assert names_of(splits.train) == names_of(folder.train)
    assert splits.train.labels.tolist() == folder.train.labels.tolist()
    read = [[one.read(k)[0] for k in range(len(one))] for one in (splits.train, folder.train)]
    assert read[0] == read[1]


def test_damaged_and_changed_parquet_files_are_refused(photos: Path, tmp_path: Path) -> None:
    path = parquet_of(photos, tmp_path / "files" / "a.parquet", 7)
    source = indexed(tmp_path / "files").train
    parquet_of(photos.parent / "photos", path, 3)
    with pytest.raises(DataError, match="a.parquet") as caught:
        source.read(0)
    assert caught.value.code == "VIT-333"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "b.parquet").write_bytes(path.read_bytes()[:-9])
    refused(tmp_path / "bad", "VIT-332", "b.parquet")

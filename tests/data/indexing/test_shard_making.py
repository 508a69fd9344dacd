"""Shards of a folder: the same training, every image once, and what is wrong is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.class_folders import class_folders, picture
from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.shards.index import INDEX, open_index
from vitrail.data.sources.digest import digests_of, fingerprint, names_of
from vitrail.data.sources.open_data import open_data, open_whole
from vitrail.data.sources.sample import keyed_order
from vitrail.errors import DataError, UsageError

SMALL = ShardOptions(shard_bytes=20_000)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def shards(photos: Path) -> Path:
    out = photos.parent / "shards"
    write_shards(open_whole(photos), out, SMALL)
    return out


@pytest.mark.parametrize("seed", [0, 3])
def test_shards_are_the_folder_again(photos: Path, shards: Path, seed: int) -> None:
    """Splits, names, content, samples: all that a run is planned and recorded by."""
    one, other = open_data(photos, seed=seed), open_data(shards, seed=seed)
    assert (one.how, one.classes, one.kind) == (other.how, other.classes, other.kind)
    assert [*one.parts()] == [*other.parts()]
    for part, source in one.parts().items():
        twin = other.parts()[part]
        assert names_of(source) == names_of(twin)
        assert source.labels.tolist() == twin.labels.tolist()
        assert source.labels.dtype == twin.labels.dtype
        assert digests_of(source).tolist() == digests_of(twin).tolist()
        assert fingerprint(source) == fingerprint(twin)
        assert keyed_order(source, "facts").tolist() == keyed_order(twin, "facts").tolist()
        assert [source.read(i)[0] for i in range(len(source))] == [
            twin.read(i)[0] for i in range(len(twin))
        ]


def test_given_splits_stay(photos: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        class_folders(tmp_path / "given" / part, 3)
    record = write_shards(open_whole(tmp_path / "given"), tmp_path / "out", SMALL)
    assert {shard.name.partition("-")[0] for shard in record.shards} == {"train", "test"}
    assert open_whole(tmp_path / "out").counts() == {"train": 10, "test": 10}


def test_shards_are_within_their_size_and_the_same_each_time(photos: Path, shards: Path) -> None:
    sizes = [path.stat().st_size for path in shards.glob("*.tar")]
    assert len(sizes) > 2
    assert max(sizes) <= SMALL.shard_bytes + 1024  # and the mark of the end
    again = photos.parent / "again"
    write_shards(open_whole(photos), again, SMALL)
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }


def test_other_programs_find_the_layout_of_webdataset(shards: Path) -> None:
    info = json.loads((shards / "_info.json").read_text())["splits"]["train"]
    classes = (shards / "classes.txt").read_text().split()
    told = []
    for name in info["filenames"]:
        with tarfile.open(shards / name) as archive:
            for one in archive:
                stem, _, ending = one.name.partition(".")
                content = archive.extractfile(one)
                assert content is not None
                if ending == "cls":
                    told.append((stem, classes[int(content.read())]))
    assert len(told) == info["num_samples"] == sum(info["shard_lengths"])
    assert [name for _, name in sorted(told)] == ["cat"] * 13 + ["dog"] * 12 + ["fox"] * 12


def test_an_index_takes_24_bytes_an_image(shards: Path) -> None:
    index = open_index(str(shards))
    columns = index.columns.arrays
    assert columns["places"].nbytes + columns["labels"].nbytes == 24 * len(index)


def test_images_that_cannot_be_decoded_are_named(photos: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "bad", 3)
    (tmp_path / "bad" / "dog" / "zz.jpg").write_bytes(picture(0, (1, 2, 3))[:300])
    with pytest.raises(DataError, match="dog/zz.jpg") as caught:
        write_shards(open_whole(tmp_path / "bad"), tmp_path / "out", SMALL)
    assert caught.value.code == "VIT-301"
    assert not (tmp_path / "out").exists()
    skipping = ShardOptions(shard_bytes=20_000, skip_bad=True)
    record = write_shards(open_whole(tmp_path / "bad"), tmp_path / "out", skipping)
    assert [name for name, _ in record.bad] == ["dog/zz.jpg"]
    splits = open_whole(tmp_path / "out")
    assert len(splits.train) == 10
    assert "1 image" in " ".join(splits.notes)


def test_images_can_be_made_smaller(photos: Path, tmp_path: Path) -> None:
    write_shards(open_whole(photos), tmp_path / "out", ShardOptions(20_000, short_side=32))
    source = open_whole(tmp_path / "out").train
    for index in range(len(source)):
        content, _ = source.read(index)
        assert isinstance(content, bytes)
        image = Image.open(io.BytesIO(content))
        before = Image.open(io.BytesIO((photos / source.raw_name(index)).read_bytes()))
        assert min(image.size) == 32
        assert image.format == before.format
        ratio = (image.width / image.height) / (before.width / before.height)
        assert 0.95 < ratio < 1.06


def test_several_labels_are_kept(tmp_path: Path) -> None:
    rows = ["path,label,split"]
    for k in range(6):
        (tmp_path / f"{k}.jpg").write_bytes(picture(k, (k * 30, 10, 90)))
        rows.append(f"{k}.jpg,{'a|b' if k % 2 else 'c' if k % 3 else ''},train")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    table = open_whole(tmp_path / "labels.csv")
    write_shards(table, tmp_path / "out", SMALL)
    splits = open_whole(tmp_path / "out")
    assert splits.multi_label
    np.testing.assert_array_equal(splits.train.labels, table.train.labels)


def test_arrays_and_existing_folders_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_shards(open_whole("builtin:digits"), tmp_path / "out", SMALL)
    assert caught.value.code == "VIT-336"
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError) as refused:
        write_shards(open_whole(photos), tmp_path / "out", SMALL)
    assert refused.value.code == "VIT-206"


def damaged(shards: Path, out: Path, name: str, place: int) -> Path:
    """A copy of the shards in which one byte of a file differs."""
    out.mkdir()
    for path in shards.iterdir():
        data = bytearray(path.read_bytes())
        if path.name == name:
            data[place] ^= 1
        (out / path.name).write_bytes(data)
    return out


def test_every_byte_of_an_index_counts(shards: Path, tmp_path: Path) -> None:
    size = (shards / INDEX).stat().st_size
    for number, place in enumerate(range(0, size, 97)):
        with pytest.raises(DataError) as caught:
            open_whole(damaged(shards, tmp_path / str(number), INDEX, place))
        assert caught.value.code == "VIT-331"
    for cut in (0, 7, 100, size - 1):
        (tmp_path / "0" / INDEX).write_bytes((shards / INDEX).read_bytes()[:cut])
        with pytest.raises(DataError, match="VIT-331"):
            open_whole(tmp_path / "0")


def test_a_changed_image_is_found_when_it_is_read(shards: Path, tmp_path: Path) -> None:
    source = open_whole(shards).train
    shard, offset, _, _ = open_index(str(shards)).place(5)
    copy = open_whole(damaged(shards, tmp_path / "copy", shard.name, offset + 30)).train
    with pytest.raises(DataError, match=shard.name) as caught:
        copy.read(5)
    assert caught.value.code == "VIT-333"
    assert copy.read(4)[0] == source.read(4)[0]


def test_a_shard_of_another_length_or_missing_is_refused_by_name(
    shards: Path, tmp_path: Path
) -> None:
    copy = damaged(shards, tmp_path / "copy", "", 0)
    (copy / "train-000001.tar").unlink()
    path = copy / "train-000000.tar"
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    source = open_whole(copy).train
    index = open_index(str(copy))
    of_shard = {index.place(row)[0].name: row for row in range(len(index))}
    for name in ("train-000000.tar", "train-000001.tar"):
        with pytest.raises(DataError, match=f"VIT-333: shard .*{name}"):
            source.read(of_shard[name])
    source.read(of_shard["train-000002.tar"])

"""Datasets of the hub by name: got once where it is asked for, then offline and always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vitrail
from tests.checkpoints.hub.fake_hub import COMMIT, CONVERTED, NEWER, Hub, install, serving
from tests.cli.cli_command import run
from tests.data.class_folders import class_folders, parquet_of
from vitrail.checkpoints.hub.hf_dataset import get_dataset
from vitrail.data.shards.index import open_index
from vitrail.data.sources.hub_data import HubData, parse_hub_data
from vitrail.data.sources.open_data import open_data
from vitrail.errors import DataError, EnvironmentFault, ModelError, UsageError

TRAIN = "data/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A Parquet file of the images of a class folder, as the hub has them."""
    folder = tmp_path_factory.mktemp("hub")
    photos = class_folders(folder / "photos", 7)
    return parquet_of(photos, folder / "a.parquet", 5).read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> Hub:
    """The stand-in with a dataset that also has code; the cache is below tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = {TRAIN: content, "evil.py": b"raise SystemExit", "README.md": b""}
    stand_in = Hub(tmp_path / "hf", files, content)
    install(stand_in, monkeypatch)
    return stand_in


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a/b", HubData("a/b")),
        ("a/b@v1.0:cropped", HubData("a/b", "v1.0", "cropped")),
        (f"a/b_c.d@{CONVERTED}", HubData("a/b_c.d", CONVERTED)),
    ],
)
def test_names(text: str, data: HubData) -> None:
    assert parse_hub_data(f"hf:{text}") == data
    assert str(data) == f"hf:{text}"
    assert data.folder.parent.name == "datasets"


@pytest.mark.parametrize("text", ["", "b", "../b", "a/..", "a/b@", "a/b:", "a/b:../c", "a b/c"])
def test_wrong_names(text: str) -> None:
    with pytest.raises(DataError, match="VIT-337"):
        open_data(f"hf:{text}")


def test_nothing_is_downloaded_unless_it_is_asked_for(hub: Hub) -> None:
    done = run("train", "hf:a/b", "--dry-run")
    assert (done.code, "vitrail data get hf:a/b" in done.err) == (3, True)
    assert hub.asked == []


def test_a_dataset_is_got_once_and_stays_the_same(hub: Hub) -> None:
    told = run("data", "get", "hf:a/b", "--json").document
    assert hub.asked == ["info a/b None", f"file {TRAIN} {COMMIT}"]  # no code, no other file
    assert sum(told["counts"].values()) > 0
    hub.asked.clear()
    hub.main = NEWER
    splits = open_data("hf:a/b")
    assert splits.name == "b"
    image, _ = splits.train.read(0)
    assert isinstance(image, bytes)
    assert len(splits.train) + len(splits.val or ()) + len(splits.test or ()) == 22
    again = open_data("hf:a/b")
    assert np.array_equal(splits.train.labels, again.train.labels)
    assert hub.asked == []
    with pytest.raises(UsageError, match=r"VIT-206.*exists"):
        vitrail.get_data("hf:a/b")
    made = open_index(str(HubData("a/b").folder)).record.made
    assert made["hub"] == f"hf:a/b@{COMMIT}:default"


def test_what_the_hub_converted_is_taken_where_there_are_no_parquet_files(
    hub: Hub, content: bytes, tmp_path: Path
) -> None:
    hub.files = {"images.zip": b"", "evil.py": b""}
    hub.converted = {f"small/{part}/0000.parquet": content for part in ("train", "test")}
    hub.converted["large/train/0000.parquet"] = content
    with pytest.raises(DataError, match=r"VIT-338.*large, small"):
        get_dataset(HubData("a/b"))
    hub.files, hub.main = {"images.zip": b""}, COMMIT
    record = get_dataset(HubData("a/b", config="small"), tmp_path / "out")
    assert set(record.splits) == {"train", "test"}
    assert len(open_data(tmp_path / "out").train) > 0
    hub.files, hub.converted = {"a.zip": b""}, {}
    with pytest.raises(DataError, match=r"VIT-338.*no Parquet"):
        get_dataset(HubData("a/b", config="small"), tmp_path / "other")


def test_faults(hub: Hub, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EnvironmentFault, match="VIT-534"):
        get_dataset(HubData("a/b"), max_bytes=len(content) - 1)
    hub.stated = "0" * 64
    with pytest.raises(ModelError, match="VIT-461"):
        get_dataset(HubData("a/b"))
    assert not HubData("a/b").folder.exists()


@pytest.mark.parity
def test_the_library_itself(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    with serving({TRAIN: content, "evil.py": b""}, TRAIN, "datasets") as address:
        vitrail.get_data("hf:a/b", endpoint=address)
        with pytest.raises(ModelError, match="VIT-465"):
            vitrail.get_data("hf:a/none", endpoint=address)
    assert not list(tmp_path.rglob("evil.py"))
    splits = open_data("hf:a/b")  # the server is gone
    assert isinstance(splits.train.read(0)[0], bytes)
    with pytest.raises(EnvironmentFault, match="VIT-530"):
        vitrail.get_data("hf:a/b@main", endpoint="http://127.0.0.1:1")

"""Shards of an object store: the bytes of local ones, within a limit; faults by name (A16)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.data.class_folders import class_folders
from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.shards import cached_store
from vitrail.data.shards.cached_store import is_url
from vitrail.data.sources.open_data import open_whole
from vitrail.data.sources.shard_source import Cache, open_stored
from vitrail.data.sources.source import Source
from vitrail.errors import DataError, UsageError

fsspec = pytest.importorskip("fsspec")
memory = pytest.importorskip("fsspec.implementations.memory")
URL = "faulty://bucket/shards"


class Faulty(memory.MemoryFileSystem):  # type: ignore[misc, name-defined]
    """A store in memory of which some reads fail."""

    protocol = "faulty"
    rate: ClassVar[float] = 0.0
    calls: ClassVar[int] = 0
    largest: ClassVar[int] = 0  # bytes of shards that were kept at any read
    folder: ClassVar[Path] = Path()
    draws: ClassVar[random.Random] = random.Random(0)

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> Any:
        Faulty.calls += 1
        kept = [*Faulty.folder.rglob("*.shard"), *Faulty.folder.rglob("*.part")]
        Faulty.largest = max(Faulty.largest, sum(one.stat().st_size for one in kept))
        if Faulty.draws.random() < Faulty.rate:
            raise OSError("the network is down")
        return super().cat_file(path, start=start, end=end)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    class_folders(place / "photos", 12)
    write_shards(open_whole(place / "photos"), place / "shards", ShardOptions(shard_bytes=15_000))
    return place / "shards"


@pytest.fixture
def store(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    monkeypatch.setattr(cached_store, "FIRST_PAUSE_SECS", 0.001)
    monkeypatch.setattr(cached_store, "PIECE_BYTES", 4000)
    Faulty.rate, Faulty.calls, Faulty.largest, Faulty.folder = 0.0, 0, 0, tmp_path
    Faulty.draws = random.Random(0)
    found = Faulty()
    found.store.clear()
    for path in shards.iterdir():
        found.pipe_file(f"/bucket/shards/{path.name}", path.read_bytes())
    yield found
    found.store.clear()


def contents(source: Source) -> list[object]:
    return [source.read(k)[0] for k in range(len(source))]


def test_bytes_are_the_same_within_the_limit_while_reads_fail(
    store: Faulty, shards: Path, tmp_path: Path
) -> None:
    sizes = sorted(path.stat().st_size for path in shards.glob("*.tar"))
    assert len(sizes) > 4
    limit = sum(sizes[-3:])
    Faulty.rate = 0.05
    splits, local = open_stored(URL, Cache(str(tmp_path), limit)), open_whole(shards)
    assert contents(splits.train) == contents(local.train)
    assert splits.train.labels.tolist() == local.train.labels.tolist()
    assert splits.index == local.index
    assert 0 < Faulty.largest <= limit
    log = "".join(path.read_text() for path in tmp_path.rglob("retries.log"))
    assert "the network is down" in log
    assert "attempt 1" in log
    assert not list(tmp_path.rglob("*.part"))


def test_what_is_kept_is_not_fetched_again(store: Faulty, tmp_path: Path) -> None:
    train = open_stored(URL, Cache(str(tmp_path))).train
    contents(train)
    before = Faulty.calls
    contents(train)
    assert Faulty.calls == before


def test_a_truncated_and_a_changed_shard_are_named(store: Faulty, tmp_path: Path) -> None:
    path = "/bucket/shards/train-000001.tar"
    whole = store.cat_file(path)
    source = open_stored(URL, Cache(str(tmp_path))).train
    for content, word in ((whole[:-700], "6 attempts"), (whole[:-9] + b"x" * 9, "sha256")):
        store.pipe_file(path, content)
        with pytest.raises(DataError, match="train-000001.tar") as caught:
            contents(source)
        assert caught.value.code == "VIT-335"
        assert word in str(caught.value)
        assert caught.value.exit_code == 3
    store.pipe_file(path, whole)
    contents(source)


def test_what_cannot_work_says_so(store: Faulty, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="VIT-303"):
        open_stored("faulty://bucket/other", Cache(str(tmp_path)))
    with pytest.raises(DataError, match="VIT-303"):
        open_stored("nosuch://bucket", Cache(str(tmp_path)))
    with pytest.raises(UsageError, match="--data.cache-bytes"):
        contents(open_stored(URL, Cache(str(tmp_path), 1000)).train)
    Faulty.rate = 1.0
    with pytest.raises(DataError, match="6 attempts"):
        open_stored(URL, Cache(str(tmp_path)))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("s3://a/b", True),
        ("memory://a", True),
        ("photos", False),
        ("hf:x", False),
        ("a/b:/c", False),
    ],
)
def test_urls(path: str, answer: bool) -> None:
    assert is_url(path) is answer

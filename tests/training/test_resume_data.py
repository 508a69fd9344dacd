"""A run goes on with the images that it began with, or names each difference and stops (R15)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.odd_images import encoded, noise
from tests.training.running import TINY, StopAt, records, weights
from vitrail.errors import DataError, ModelError
from vitrail.training import loop

SETTINGS: dict[str, Any] = {
    "data.path": "d",
    "model.name": "vit_ti4",
    "data.image_size": "8",
    "batch_size": 5,
    "steps": 6,
    "save_every_steps": 2,
    "augment.policy": "none",
    "data.on_bad_file": "skip",
}
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with d/, a stopped run "stopped" on it and the same run "straight" to its end."""
    root, before = tmp_path_factory.mktemp("begun"), Path.cwd()
    for name in "ab":
        (root / "d" / name / "more").mkdir(parents=True)
        for k in range(12):
            content = encoded(noise(8, 8, seed=50 * ord(name) + k), "BMP")
            (root / "d" / name / f"{k:02}.bmp").write_bytes(content)
    (root / "d" / "a" / "bad.bmp").write_bytes(b"BM no image")
    os.chdir(root)
    layer = [("test", {**TINY, **SETTINGS})]
    loop.train(layer, runs_dir=root, name="straight", with_report=False)
    loop.train(layer, runs_dir=root, name="stopped", reporter=StopAt(3), with_report=False)
    os.chdir(before)
    return root


@pytest.fixture
def place(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "place"
    shutil.copytree(begun, root)  # another place: nothing but the content is as recorded
    shutil.copytree(begun / "d", root / "d", dirs_exist_ok=True)
    monkeypatch.chdir(root)
    monkeypatch.setattr("vitrail.evaluation.run_data.os.path.exists", only(root))
    return root


def only(root: Path) -> Callable[[str], bool]:
    """Whether a path is there, as if nothing were outside `root`."""
    return lambda path: os.path.realpath(path).startswith(f"{root}/") and os.path.lexists(path)


def exchange(root: Path, one: str, other: str) -> None:
    """Two files change places, each with the size and the time of the other."""
    paths = [root / "d" / one, root / "d" / other]
    contents = [path.read_bytes() for path in paths]
    facts = [path.stat() for path in paths]
    for path, content, fact in zip(paths, contents[::-1], facts, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(fact.st_atime_ns, fact.st_mtime_ns))


def replace_all(root: Path) -> None:
    for number, path in enumerate(sorted((root / "d").rglob("[0-9]*.bmp"))):
        path.write_bytes(encoded(noise(8, 8, seed=9000 + number), "BMP"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "all replaced": (replace_all, ("train images changed (a/0", "val images changed")),
    "one bit": (lambda root: flip(root / "d/a/03.bmp"), ("images changed (a/03.bmp)",)),
    "exchanged": (lambda root: exchange(root, "a/03.bmp", "a/04.bmp"), ("a/03.bmp", "a/04.bmp")),
    "added": (
        lambda root: (root / "d/a/99.bmp").write_bytes(encoded(noise(8, 8, seed=1), "BMP")),
        ("1 new images added (a/99.bmp)",),
    ),
    "copied": (
        lambda root: shutil.copy(root / "d/a/03.bmp", root / "d/a/z.bmp"),
        ("1 new images added (a/z.bmp)",),
    ),
    "removed": (lambda root: (root / "d/b/05.bmp").unlink(), ("images removed (b/05.bmp)",)),
    "another class": (
        lambda root: shutil.move(root / "d/b/05.bmp", root / "d/a/99.bmp"),
        ("images of another class (b/05.bmp)",),
    ),
    "class renamed": (
        lambda root: (root / "d/b").rename(root / "d/c"),
        ("removed b; new c",),
    ),
    "bad file mended": (
        lambda root: (root / "d/a/bad.bmp").write_bytes(encoded(noise(8, 8, seed=2), "BMP")),
        ("1 unused images changed (a/bad.bmp)",),
    ),
}


@pytest.mark.promise("R15")
@pytest.mark.parametrize("name", CHANGES)
def test_other_images_are_named_and_refused(place: Path, name: str) -> None:
    change, words = CHANGES[name]
    before = (place / "stopped" / "metrics.jsonl").read_bytes()
    change(place)
    with pytest.raises(DataError) as caught:
        loop.resume(place / "stopped", with_report=False)
    assert caught.value.code == "VIT-322"
    for word in words:
        assert word in caught.value.message
    assert (place / "stopped" / "metrics.jsonl").read_bytes() == before


def elsewhere(root: Path) -> None:
    os.mkdir(root / "other")
    os.chdir(root / "other")


def together(root: Path) -> None:
    (root / "far").mkdir()
    for name in ("d", "stopped"):
        (root / name).rename(root / "far" / name)
    (root / "stopped").symlink_to(root / "far" / "stopped")


def touch(root: Path) -> None:
    for path in (root / "d").rglob("*"):
        path.touch()


SAME: dict[str, Change] = {
    "copied": lambda root: None,
    "another working directory": elsewhere,
    "run and data moved together": together,
    "touched": touch,
    "moved within its class": lambda root: shutil.move(
        root / "d/a/03.bmp", root / "d/a/more/moved.bmp"
    ),
}


@pytest.mark.promise("R15")
@pytest.mark.parametrize("name", SAME)
def test_the_same_images_go_on_bit_for_bit(place: Path, name: str) -> None:
    SAME[name](place)
    loop.resume(place / "stopped", with_report=False)
    assert records(place / "stopped") == records(place / "straight")
    assert weights(place / "stopped") == weights(place / "straight")


@pytest.mark.promise("R15")
def test_data_that_was_moved_is_named(place: Path) -> None:
    (place / "d").rename(place / "moved")
    with pytest.raises(DataError, match="is not there; looked for at") as caught:
        loop.resume(place / "stopped", with_report=False)
    assert "vitrail train DATA --resume" in caught.value.hint
    loop.resume(place / "stopped", data=str(place / "moved"), with_report=False)
    assert weights(place / "stopped") == weights(place / "straight")


@pytest.mark.promise("R15")
@pytest.mark.parametrize("what", ["gone", "half", "pipe", "of a model"])
def test_without_its_record_a_run_stops(place: Path, what: str) -> None:
    record = place / "stopped" / "examples.dat"
    content = record.read_bytes()
    record.unlink()
    if what == "half":
        record.write_bytes(content[: len(content) // 2])
    elif what == "pipe":
        os.mkfifo(record)
    elif what == "of a model":
        shutil.copy(place / "straight" / "model" / "examples.dat", record)
    with pytest.raises(ModelError, match=r"examples\.dat cannot be read") as caught:
        loop.resume(place / "stopped", with_report=False)
    assert caught.value.code == "VIT-409"

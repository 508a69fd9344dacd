"""A disk that is full at any moment: exit 5 with a name, and nothing half-written under any name.

Files may not grow above a size, in this very process, while a verb writes; every verb that writes
is called. What is there afterwards is there whole: nothing new, or what the command would write.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.cli_command import Done, run
from tests.cli.mistakes_place import TRAIN, save_images
from tests.full_disk import largest_file

WRITERS = (
    "predict runs/good many --out o/p.csv",
    "predict runs/good many --out o/p.jsonl",
    "predict runs/good many --out o/p.parquet",
    "data split many o/s.csv",
    "data check photos --out o/c",
    "data show photos --out o/show.png",
    "data get digits o/digits",
    "eval runs/good --out o/e",
    "eval runs/good/model photos --split test --out o/e2",
    "explain runs/good photos/cat/0.png --method attention --out o/x",
    "explain runs/good --figures --out o/f",
    "explain runs/good photos/cat/0.png --faithfulness --out o/g",
    "convert runs/good/model o/m --to vitrail",
    "convert runs/good/model o/m.npz --to google --set gelu=gelu_tanh",
    "convert runs/good/model o/t --to timm",
    "convert runs/good/model o/h --to huggingface",
    "probe runs/good --kind knn --no-cache --out o/p.json",
    "report o/run",
    "eval o/run --calibrate --out o/cal",
)
SIZES = (pytest.param(1500), *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 30_000)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """photos/, many/ and a finished run in runs/good, as the working directory."""
    folder, before = tmp_path_factory.mktemp("full"), Path.cwd()
    os.chdir(folder)
    names = [f"{number}.png" for number in range(20)]
    for seed, label in enumerate(("cat", "dog")):
        save_images(folder / "photos" / label, names, seed)
        save_images(folder / "many" / label, [f"{'n' * 60}{name}" for name in names], seed)
    done = run("train", "photos", *TRAIN, "--steps", "2", "--name", "good", "--workers", "0")
    assert done.code == 0, done.err
    yield folder
    os.chdir(before)


def begin(place: Path) -> dict[str, bytes]:
    """An empty o/ with a copy of the run in it; all its files."""
    shutil.rmtree(place / "o", ignore_errors=True)
    shutil.copytree(place / "runs" / "good", place / "o" / "run")
    return contents(place)


def contents(place: Path) -> dict[str, bytes]:
    """Every file in o/."""
    return {
        path.relative_to(place / "o").as_posix(): path.read_bytes()
        for path in (place / "o").rglob("*")
        if path.is_file()
    }


def written(command: str, place: Path, size: int | None) -> tuple[Done, dict[str, bytes]]:
    """How a command ends on such a disk, and the files that are new or changed."""
    before = begin(place)
    if size is None:
        done = run(*command.split())
    else:
        with largest_file(size):
            done = run(*command.split())
    after = contents(place)
    assert set(before) <= set(after)
    return done, {name: data for name, data in after.items() if before.get(name) != data}


@pytest.mark.promise("R3")
@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk(place: Path, command: str, size: int) -> None:
    whole, expected = written(command, place, None)
    assert whole.code == 0, whole.err
    done, found = written(command, place, size)
    too_large = any(len(data) > size for data in expected.values())
    assert done.code == (5 if too_large else 0), done.err
    assert not any("/." in f"/{name}" for name in found), found.keys()
    for name, data in found.items():  # as long as the whole one: times and paths differ
        assert abs(len(data) - len(expected[name])) < 200, name
    if too_large:
        assert done.err.startswith("error VIT-506: o"), done.err
        assert "File too large" in done.err

"""Whatever is wrong with a file of a run or a model: a message with a code, within seconds.

Each file is damaged in every way of damage.py and each verb that reads the folder is called. The
default suite does a sample, `make nightly` all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import damage
from tests.cli.cli_command import run
from tests.cli.mistakes_place import TRAIN, save_pictures

PICTURE = "photos/cat/0.png"
READERS = {  # verbs that read a folder: R a run, M a model, S studies
    "report": "report R",
    "predict": f"predict R {PICTURE}",
    "predict model": f"predict M {PICTURE}",
    "eval": "eval R --out o",
    "resume": "train --resume R",
    "start": f"train photos --from M {' '.join(TRAIN[2:])} --steps 1 --out o --name n",
    "explain": f"explain R {PICTURE} --method attention --out o",
    "probe": "probe R --kind knn --no-cache --out o/p.json",
    "convert": "convert M o/m --to timm",
}
PER_FILE = 4  # damages of a file in the default suite


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """photos/ and a finished run in runs/good, as the working directory."""
    folder, before = tmp_path_factory.mktemp("damaged"), Path.cwd()
    os.chdir(folder)
    for seed, label in enumerate(("cat", "dog")):
        save_pictures(folder / "photos" / label, [f"{number}.png" for number in range(12)], seed)
    done = run("train", "photos", *TRAIN, "--steps", "2", "--name", "good", "--workers", "0")
    assert done.code == 0, done.err
    yield folder
    os.chdir(before)


def files_of(folder: Path) -> list[str]:
    """Every file in a folder, by its name from there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file())  # fmt: skip


def fault_of(place: Path, verb: str, name: str, how: str, change: damage.Damage) -> str:
    """What is wrong with how `verb` takes a damaged file; nothing where it is right."""
    shutil.rmtree(place / "o", ignore_errors=True)
    shutil.rmtree(place / "again", ignore_errors=True)
    shutil.copytree(place / "runs" / "good", place / "again")
    change(place / "again" / name)
    words = {"R": "again", "M": "again/model"}
    done = run(*(words.get(word, word) for word in READERS[verb].split()))
    if "VIT-100" in done.err or "Traceback" in done.err or done.code not in (0, 2, 3, 4, 5, 6, 7):
        return f"{verb} {name} {how}: exit {done.code} {done.err[:300]}"
    return ""


def all_damages(path: Path) -> dict[str, damage.Damage]:
    """Those of a whole file and of its values."""
    return damage.whole_file_damages() | damage.value_damages(path)


def test_a_sample_of_damages(place: Path) -> None:
    found = []
    verbs = list(READERS)
    for number, name in enumerate(files_of(place / "runs" / "good")):
        damages = all_damages(place / "runs" / "good" / name)
        for turn, (how, change) in enumerate(damage.sample(damages, PER_FILE, name).items()):
            verb = "report" if turn % 2 else verbs[(number + turn) % len(verbs)]
            found.append(fault_of(place, verb, name, how, change))
    assert not any(found), "\n".join(filter(None, found))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", READERS)
def test_every_damage_of_a_whole_file(place: Path, verb: str) -> None:
    found = [
        fault_of(place, verb, name, how, change)
        for name in files_of(place / "runs" / "good")
        for how, change in damage.whole_file_damages().items()
    ]
    assert not any(found), "\n".join(filter(None, found))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", ["report", "predict", "resume", "eval"])
def test_every_value_of_another_kind(place: Path, verb: str) -> None:
    found = [
        fault_of(place, verb, name, how, change)
        for name in files_of(place / "runs" / "good")
        for how, change in damage.sample(
            damage.value_damages(place / "runs" / "good" / name), 200, f"{verb} {name}"
        ).items()
    ]
    assert not any(found), "\n".join(filter(None, found))

"""Whatever is wrong with a file of a run or a model: a message with a code, within seconds.

Each file is damaged in every way of damage.py and each verb that reads the folder is called. The
default suite does a sample, `make nightly` all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli import damage
from tests.cli.cli_command import run
from tests.cli.mistakes_place import TRAIN, finished_run
from tests.report.made_run import made_audit, made_run
from tests.studies.made_rows import made_row
from vitrail.classifier import load
from vitrail.errors import VitrailError
from vitrail.report.run_images import NoImages
from vitrail.report.run_report import write_report
from vitrail.studies.engine.store import open_store

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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """photos/ and a finished run in runs/good, as the working directory."""
    with finished_run(tmp_path_factory.mktemp("damaged")) as folder:
        yield folder


def files_of(folder: Path) -> list[str]:
    """Every file in a folder, by its name from there."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


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


def refused_or_read(call: Callable[[], object]) -> str:
    """What is wrong with how a call of ours takes a damaged file; nothing where it is right."""
    try:
        call()
    except VitrailError as error:
        is_short = len(str(error)) < 3000
        return "" if error.exit_code in (2, 3, 4, 5) and is_short else str(error)[:300]
    except Exception as error:
        return repr(error)[:300]
    return ""


def wrong_with(folder: Path, call: Callable[[Path], object], per_file: int) -> list[str]:
    """Every file of a folder damaged, at most `per_file` times, and `call`ed on."""
    found = []
    for name in files_of(folder):
        damages = all_damages(folder / name)
        for how, change in damage.sample(damages, per_file, name).items():
            copy = folder.with_name("damaged")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            change(copy / name)
            if wrong := refused_or_read(lambda: call(copy)):  # noqa: B023
                found.append(f"{name} {how}: {wrong}")
    return found


EVERY = pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])


@pytest.mark.parametrize("per_file", [3, EVERY])
def test_a_report_of_a_damaged_run(tmp_path: Path, per_file: int) -> None:
    classes = ["cat", "dog", "fox"]
    run_dir = made_run(tmp_path / "run", classes, n=40, epochs=3)
    (run_dir / "audit.json").write_text(json.dumps(made_audit(classes)))
    assert not wrong_with(run_dir, lambda copy: write_report(copy, NoImages("")), per_file)


@pytest.mark.parametrize("per_file", [12, EVERY])
def test_a_damaged_model(place: Path, per_file: int) -> None:
    assert not wrong_with(place / "runs" / "good" / "model", load, per_file)


@pytest.mark.parametrize("per_file", [12, EVERY])
def test_a_damaged_model_in_a_zip(place: Path, tmp_path: Path, per_file: int) -> None:
    (tmp_path / "zip").mkdir()
    shutil.make_archive(str(tmp_path / "zip" / "m"), "zip", place / "runs" / "good", "model")
    assert not wrong_with(tmp_path / "zip", lambda copy: load(copy / "m.zip"), per_file)


@pytest.mark.parametrize("per_file", [25, EVERY])
def test_a_damaged_study(tmp_path: Path, per_file: int) -> None:
    store = open_store(tmp_path / "studies", "head", "question")
    for seed in range(3):
        values = {"test/top1": 0.5, "parameters": 100}
        store.append(made_row("cls", seed, {"pictures": 10}, values))

    def go_on(copy: Path) -> None:
        again = open_store(copy, "head", "question")
        again.mend()
        again.rows()

    assert not wrong_with(tmp_path / "studies", go_on, per_file)


def test_a_sample_of_verbs(place: Path) -> None:
    verbs, found = list(READERS), []
    for number, name in enumerate(files_of(place / "runs" / "good")[::4]):
        damages = all_damages(place / "runs" / "good" / name)
        for how, change in damage.sample(damages, 1, name).items():
            found.append(fault_of(place, verbs[number % len(verbs)], name, how, change))
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

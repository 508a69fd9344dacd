"""`vitrail study`: mistakes with their ways out, what it prints, and how it ends on a signal."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run
from tests.cli.mistakes_place import save_images
from tests.cli.test_cli_mistakes import OPTIONS, suggested_options, suggested_verbs
from tests.studies.small_study import ONE_SECOND
from vitrail.cli.registry import VERBS
from vitrail.cli.study_runner import ending
from vitrail.studies import run as studies
from vitrail.studies.compute_study import Computed
from vitrail.studies.experiments.registry import STUDIES
from vitrail.studies.planned import Planned
from vitrail.studies.publish import rerun
from vitrail.studies.results.result import Outcome, Verdict

DIGITS = "--data builtin:digits"

# (what people type after `vitrail study`, exit code, VIT code, words that say the way out)
MISTAKES = [
    ("", 2, "VIT-201", "vitrail study --list"),
    ("data-sise", 2, "VIT-292", "Did you mean data-size?"),
    ("data-size", 2, "VIT-201", "vitrail study data-size --data builtin:digits"),
    ("data-size photos", 2, "VIT-201", "vitrail study --help"),
    (f"data-size {DIGITS} --buget 3m", 2, "VIT-211", "Did you mean --budget?"),
    (f"data-size {DIGITS} --rates 0.1", 2, "VIT-293", "Leave it out"),
    (f"data-size {DIGITS} --equal money", 2, "VIT-202", "compute"),
    (f"data-size {DIGITS} --sizes abc", 2, "VIT-202", "--sizes 1,5"),
    (f"data-size {DIGITS} --sizes 100,", 2, "VIT-202", "--sizes 1,5"),
    (f"data-size {DIGITS} --sizes 0", 2, "VIT-202", "above 0"),
    (f"data-size {DIGITS} --sizes 3,100", 2, "VIT-202", "from 10 to 1437"),
    (f"data-size {DIGITS} --sizes 100,5000", 2, "VIT-202", "from 10 to 1437"),
    (f"data-size {DIGITS} --budget soon", 2, "VIT-202", "20m"),
    (f"data-size {DIGITS} --budget 1.2.3m", 2, "VIT-202", "20m"),
    (f"data-size {DIGITS} --budget 60", 2, "VIT-212", "--budget 60s or --budget 60m"),
    (f"data-size {DIGITS} --budget 0m", 2, "VIT-202", "20m"),
    (f"data-size {DIGITS} --budget -5m", 2, "VIT-201", "vitrail study --help"),
    (f"data-size {DIGITS} --full --budget 1h", 2, "VIT-290", "--sizes"),
    (f"data-size {DIGITS} --examples 0", 2, "VIT-202", "--examples 5"),
    (f"data-size {DIGITS} --seeds 0", 2, "VIT-202", "--seeds 2"),
    (f"data-size {DIGITS} --seeds three", 2, "VIT-202", "vitrail study --help"),
    (f"data-size {DIGITS} --processes 0", 2, "VIT-202", "--processes 2"),
    (f"data-size {DIGITS} --threads 0", 2, "VIT-202", "--threads 2"),
    (f"data-size {DIGITS} --accumulate 0", 2, "VIT-202", "--accumulate 5"),
    (f"data-size {DIGITS} --image-size 0", 2, "VIT-202", "--image-size"),
    (f"data-size {DIGITS} --device tpu", 2, "VIT-241", "cpu"),
    (f"data-size {DIGITS} --device cuda:97", 5, "VIT-501", "--device"),
    (f"data-size {DIGITS} --engine spark", 2, "VIT-202", "ray"),
    (f"data-size {DIGITS} --out notes.txt", 5, "VIT-506", "--out"),
    ("data-size --data nowhere", 3, "VIT-303", "CLASS/IMAGE"),
    ("data-size --data alone", 3, "VIT-304", "two classes"),
    ("data-size --data several.csv", 3, "VIT-323", "vitrail train DATA"),
    ("data-size --data no_test.csv", 3, "VIT-323", "test"),
    (f"nowhere.toml {DIGITS}", 2, "VIT-215", "docs/studies/README.md"),
    (f"one.toml {DIGITS}", 2, "VIT-286", "[arms.NAME]"),
    (f"two.toml {DIGITS} --full", 2, "VIT-293", "Leave it out"),
    (f"two.toml {DIGITS} --sizes 100,200", 2, "VIT-293", "Leave it out"),
    ("data-size --data photos", 2, "VIT-290", "vitrail train DATA"),
    (f"data-size {DIGITS} --transfer nowhere", 3, "VIT-303", "CLASS/IMAGE"),
    (f"data-size {DIGITS} --transfer several.csv", 3, "VIT-323", "vitrail train DATA"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with images that a study cannot use, as the working directory."""
    folder = tmp_path_factory.mktemp("study")
    names = [f"{number}.png" for number in range(12)]
    for seed, label in enumerate(("cat", "dog")):
        save_images(folder / "photos" / label, names, seed)
    save_images(folder / "alone" / "cat", names)
    (folder / "notes.txt").write_text("nothing")
    (folder / "one.toml").write_text("[arms.a]")
    (folder / "two.toml").write_text("[arms.a]\n[arms.b]\nema = 0.5")
    paths = [f"photos/{label}/{name}" for label in ("cat", "dog") for name in names]
    labels = ["cat", "dog", "cat|dog"]
    rows = [f"{path},{labels[number % 3]}" for number, path in enumerate(paths)]
    (folder / "several.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    rows = [
        f"{path},{labels[n % 2]},{'val' if n % 5 == 0 else 'train'}" for n, path in enumerate(paths)
    ]
    (folder / "no_test.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize(
    ("typed", "code", "vit", "way_out"), MISTAKES, ids=lambda value: str(value)
)
def test_mistake(place: Path, typed: str, code: int, vit: str, way_out: str) -> None:
    before = sorted(place.rglob("*"))
    done = run("study", *typed.split())
    found = re.search(r"^error (VIT-(\d)\d\d): \S", done.err, flags=re.MULTILINE)
    assert found is not None
    assert (found[1], done.code, int(found[2])) == (vit, code, code), done.err
    assert way_out in done.err
    assert "Traceback" not in done.err
    assert suggested_verbs(done.err) <= set(VERBS)
    assert suggested_options(done.err) - set(typed.split()) <= OPTIONS
    assert sorted(place.rglob("*")) == before
    assert done.out == ""


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_budget_too_short(tmp_path: Path) -> None:
    typed = f"data-size {DIGITS} --sizes 100 --seeds 1 --out {tmp_path}"
    done = run("study", *typed.split(), "--budget", "1s")
    assert (done.code, done.err.splitlines()[1][:14]) == (2, "error VIT-291:")
    assert re.search(r"Use --budget \d+m", done.err)
    assert [path.name for path in tmp_path.iterdir()] == ["data-size"]


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    done = run("study", "data-size", *DIGITS.split(), "--engine", "ray", "--out", tmp_path)
    assert (done.code, "VIT-520" in done.err) == (5, True)
    assert "pip install 'ray" in done.err


def test_all_studies_are_listed() -> None:
    done = run("study", "--list")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == list(STUDIES)
    document = run("study", "--list", "--json").document
    assert {name: one["title"] for name, one in document.items()} == {
        name: one.title for name, one in STUDIES.items()
    }


def test_the_paper_scale_is_shown_and_not_run(tmp_path: Path) -> None:
    typed = f"data-size {DIGITS} --full --transfer builtin:digits --seeds 1 --out {tmp_path / 's'}"
    done = run("study", *typed.split())
    assert (done.code, done.err) == (0, "")
    assert "device-days" in done.out
    assert run("study", *typed.split(), "--json").document["cells"] == 24
    assert not (tmp_path / "s").exists()


@pytest.fixture
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace is given, nothing is computed and no figure drawn."""

    def measure(study: Any, setup: Any, store: Any, engine: Any) -> Any:
        from vitrail.studies.engine.cell import needed

        return {one.pace_key(): ONE_SECOND for one in needed(study.cells(setup))}

    def finish(planned: Any, *_: Any) -> Any:
        verdict = Verdict("Nothing.", "claim", "source", ["evidence"], ["limit"])
        tables = {"Top-1": [["arm", "10"], ["ViT", "0.5"]]}
        return Computed([], len(planned.cells), 3), Outcome(verdict, [], tables, {"n": 1})

    monkeypatch.setattr(studies, "measure", measure)
    monkeypatch.setattr(studies, "run", finish)


@pytest.mark.usefixtures("_no_workers")
def test_a_dry_run_counts_and_keeps_nothing(tmp_path: Path) -> None:
    typed = f"data-size {DIGITS} --sizes 100,500 --seeds 2 --examples 6400 --processes 3 --dry-run"
    done = run("study", *typed.split(), "--out", tmp_path / "s")
    assert done.code == 0
    assert "16 cells" in done.out
    assert "0:06 with 3 processes" in done.out
    assert not (tmp_path / "s").exists()
    document = run("study", *typed.split(), "--json").document
    assert document == {"cells": 16, "seconds": 6.0, "examples": 6400, "processes": 3}
    assert "ViT, images 100, seed 0" in run("study", *typed.split(), "-v").out
    assert run("study", *typed.split(), "-q").err == ""


@pytest.mark.usefixtures("_no_workers")
def test_the_paper_scale_is_run_when_its_length_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrail.studies.setup.BATCH", 1024)
    typed = f"head {DIGITS} --full --examples 409600 --seeds 1 --accumulate 64 --out {tmp_path}"
    done = run("study", *typed.split())
    assert "plan   6 cells" in done.err
    assert "models see 224x224 px" in done.err
    record = json.loads((tmp_path / "head" / "study.json").read_text())
    assert (record["is_full"], record["accumulate"], record["examples"]) == (True, 64, 409_600)
    plain = run("study", *typed.replace("--accumulate 64", "").split())
    assert "head-2 (new)" in plain.err  # other last bits, another question


@pytest.mark.usefixtures("_no_workers")
def test_one_document_and_nothing_else(tmp_path: Path) -> None:
    typed = f"data-size {DIGITS} --examples 6400 --seeds 1 --out {tmp_path / 's'}"
    done = run("study", *typed.split(), "--json")
    assert done.code == 0
    document = done.document
    assert {key: document[key] for key in ("cells", "finished", "left_out", "stopped")} == {
        "cells": 16,
        "finished": 0,
        "left_out": 3,
        "stopped": None,
    }
    assert document["verdict"]["answer"] == "Nothing."
    assert (document["tables"]["Top-1"][1], document["facts"]) == (["ViT", "0.5"], {"n": 1})
    assert Path(document["folder"]) == tmp_path / "s" / "data-size"
    record = json.loads((tmp_path / "s" / "data-size" / "study.json").read_text())
    assert (record["examples"], len(record["cells"]), record["seeds"]) == (6400, 16, [0])


@pytest.mark.usefixtures("_no_workers")
def test_the_same_question_goes_on_and_quiet_says_only_the_result(tmp_path: Path) -> None:
    typed = f"data-size {DIGITS} --examples 6400 --seeds 1 --out {tmp_path}"
    assert "(new)" in run("study", *typed.split()).err
    done = run("study", *typed.split())
    assert "(continued)" in done.err
    assert "verdict  Nothing." in done.out
    assert "3 runs did not fit the time budget" in done.out
    other = run("study", *typed.split(), "--equal", "epochs")
    assert "data-size-2 (new)" in other.err
    quiet = run("study", *typed.split(), "-q")
    assert (quiet.err, quiet.code) == ("", 0)
    assert quiet.out == done.out


@pytest.mark.usefixtures("_no_workers")
@pytest.mark.parametrize(
    "typed",
    [
        "data-size --sizes 100,500 --equal epochs --threads 2 --seeds 2",
        "data-size --transfer builtin:digits --image-size 16",
        "head --rates 0.001,0.002 --accumulate 4",
        "head --on-bad-file skip",
        "posemb --full --accumulate 64",
    ],
)
def test_the_command_in_the_results_asks_the_same_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr("vitrail.studies.setup.BATCH", 1024)
    planned: list[Planned] = []
    finish = studies.run

    def remembered(one: Planned, *more: Any) -> Any:
        planned.append(one)
        return finish(one, *more)

    monkeypatch.setattr(studies, "run", remembered)
    common = ("--out", str(tmp_path))
    assert (
        "(new)" in run("study", *typed.split(), *DIGITS.split(), "--examples", "6400", *common).err
    )
    verb, *words = shlex.split(rerun(planned[0]))[1:]
    assert "(continued)" in run(verb, *words, *common).err, rerun(planned[0])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Computed([], 0), []),
        (Computed([], 5, left_out=2), ["2 runs did not fit the time budget"]),
        (Computed([], 5, orphans=1), ["what they start from diverged: 1"]),
        (Computed([], 5, left_out=2, stopped="SIGINT"), ["stopped (SIGINT)"]),
    ],
)
def test_the_last_lines_say_what_is_missing_and_why(found: Computed, words: list[str]) -> None:
    lines = ending(found, Path("folder"))[1:]
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


@pytest.mark.usefixtures("_no_workers")
def test_a_budget_that_hardly_trains_is_told(tmp_path: Path) -> None:
    """A cell takes a second in which nothing is trained."""
    typed = [*DIGITS.split(), "--examples", "640", "--out", str(tmp_path)]
    done = run("study", "data-size", *typed)
    assert "note   only 0% of the time goes into training" in done.err
    alone = run("study", "speed", *typed)
    assert "goes into training" not in alone.err

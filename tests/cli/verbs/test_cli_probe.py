"""`vitrail probe` on the built-in digits with a tiny model: what it prints, writes and keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import vitrail
from tests.cli.cli_command import Done, run
from vitrail.errors import UsageError

TINY = ["--model", "vit_digits", "--model.width", "24", "--model.depth", "1", "--model.num-heads"]
TINY += ["2", "--model.mlp-dim", "24", "--batch-size", "32", "--threads", "1"]
DIGITS = "builtin:digits"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a run runs/me and a cache of its own."""
    folder, before = tmp_path_factory.mktemp("probe"), Path.cwd()
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    os.chdir(folder)
    done = run("train", DIGITS, *TINY, "--steps", "9", "--name", "me", "--json")
    assert done.code == 0, done.err
    yield folder
    os.chdir(before)
    patch.undo()


def good(*argv: object) -> Done:
    """A command that must go well and print no escape code."""
    done = run(*argv)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + done.err
    return done


@pytest.mark.parametrize("kind", ["few-shot", "linear", "knn"])
def test_each_kind_for_people_and_machines(place: Path, kind: str) -> None:
    out = place / f"{kind}.json"
    record = good("probe", "runs/me", DIGITS, "--kind", kind, "--out", out, "--json").document
    assert record == json.loads(out.read_text())
    assert (record["kind"], record["data"], record["n"]) == (kind, "digits", 180)
    assert record["num_features"] == 24
    assert record["results"][-1]["top1"] > record["baselines"]["majority class"]
    lines = good("probe", "runs/me", "--kind", kind, "--out", f"{kind}-again.json").out.splitlines()
    assert lines[0].startswith("digits test  180 images, 10 classes, 24 features")
    assert f"majority class  {record['baselines']['majority class']:.4f}" in lines
    assert lines[-1] == f"wrote {kind}-again.json"
    for result in record["results"]:
        low, high = result["top1_interval"]
        own = [line for line in lines if f"{result['top1']:.4f}" in line]
        assert any(f"{low:.4f}-{high:.4f}" in line for line in own)


def test_the_table_of_few_shots_says_which_interval_is_which(place: Path) -> None:
    lines = good("probe", "runs/me", "--k", "1,2", "--seeds", "2", "--out", "table.json").out
    head, first, second = lines.splitlines()[1:4]
    assert head.split("  ")[-2:] == ["95 % over 2 draws", "95 % of 180 images"]
    assert (first.split()[0], second.split()[0]) == ("1", "2")
    assert "one draw" in good("probe", "runs/me", "--seeds", 1, "--out", "one.json").out


def test_features_are_kept_and_damage_is_mended(place: Path) -> None:
    before = good("probe", "runs/me", "--kind", "knn", "--out", "kept-1.json", "--json")
    entries = sorted((place / "cache" / "vitrail" / "features").iterdir())
    stamps = [path.stat().st_mtime_ns for path in entries]
    assert len(entries) >= 3
    good("probe", "runs/me", "--kind", "knn", "--no-cache", "--out", "kept-2.json")
    again = good(
        "probe", "runs/me/model", DIGITS, "--kind", "knn", "--out", "kept-3.json", "--json"
    )
    assert again.document["results"] == before.document["results"]
    assert [path.stat().st_mtime_ns for path in entries] == stamps
    for path in entries:
        path.write_bytes(path.read_bytes()[:-1])
    mended = good("probe", "runs/me", "--kind", "knn", "--out", "kept-4.json", "--json")
    assert mended.document["results"] == before.document["results"]
    assert mended.err.count("damaged") == 3


def test_the_record_goes_beside_the_run_and_nothing_is_overwritten(place: Path) -> None:
    few = ["probe", "runs/me", "--k", "1"]
    assert good(*few).out.splitlines()[-1] == "wrote runs/me/probe.json"
    assert good(*few).out.splitlines()[-1] == "wrote runs/me/probe-2.json"
    assert good("probe", "runs/me/model", DIGITS, "--k", "1").out.splitlines()[-1] == (
        "wrote probe.json"
    )
    assert (place / "probe.json").is_file()


def test_a_sweep_is_chosen_on_validation(place: Path) -> None:
    argv = ["probe", "runs/me", "--k", "5", "--l2", "sweep", "--out", "sweep.json", "--json"]
    record = good(*argv).document
    assert len(record["results"][0]["sweep"]) == 7
    assert record["chosen_on"] == "the val split (180 images)"


def test_from_python(place: Path) -> None:
    shown = json.loads((place / "few-shot.json").read_text())["results"]
    found = vitrail.load("runs/me").probe(DIGITS, k=[1, 5])
    assert [one.to_json() for one in found.figures] == shown[:2]
    single = vitrail.load("runs/me").probe(DIGITS, "linear", l2=0.1, cache=False)
    assert [one.l2 for one in single.figures] == [0.1]
    with pytest.raises(UsageError, match="--l2"):
        vitrail.load("runs/me").probe(DIGITS, "linear", l2=0)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "code", "way"),
    [
        ("runs/me --kind svm", "VIT-202", "few-shot"),
        ("runs/me --k one", "VIT-202", "--k 1,5"),
        ("runs/me --k 0", "VIT-202", "above 0"),
        ("runs/me --kind linear --k 3", "VIT-262", "Leave it out"),
        ("runs/me --kind knn --l2 sweep", "VIT-262", "few-shot and linear"),
        ("runs/me --split train", "VIT-261", "--split test"),
        ("runs/me --split holdout", "VIT-240", "--split"),
        ("runs/me/model", "VIT-208", "vitrail probe runs/me/model DATA"),
        ("runs/me --out runs", "VIT-206", "--out"),
        ("runs/me --kind knn --k 9999", "VIT-263", "--k 1,5"),
        ("nowhere builtin:digits", "VIT-430", "run directory"),
        ("runs/me builtin:digit", "VIT-303", "builtin:digits"),
        ("runs/me --seed 3", "VIT-211", "Did you mean --seeds?"),
    ],
)
def test_mistakes(words: str, code: str, way: str) -> None:
    done = run("probe", *words.split(), "--json")
    assert done.document["code"] == code
    assert done.code == int(code[4])
    assert way in done.err

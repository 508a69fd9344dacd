"""Which images an evaluation judges: what the run recorded, by content, or all of other data; those
that were trained on are counted (E1), and no record is written over (E2).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.cli_command import Done, run
from tests.data.odd_images import encoded, noise
from tests.training.running import TINY, StopAt
from vitrail.classifier import load
from vitrail.data.sources.digest import digests_of
from vitrail.data.sources.source import FileSource
from vitrail.evaluation.eval_set import open_given
from vitrail.training import loop

SETTINGS: dict[str, Any] = {
    "model.name": "vit_ti4",
    "data.image_size": "8",
    "batch_size": 7,
    "steps": 3,
    "augment.policy": "none",
    "eval_every_epochs": 1.0,
}


def photos(root: Path, seed: int, count: int = 20) -> Path:
    for name in "ab":
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            pixels = noise(8, 8, seed=seed + 1000 * ord(name) + k)
            (root / name / f"{seed}-{k:02}.png").write_bytes(encoded(pixels, "PNG"))
    return root


def trained(root: Path, name: str, **settings: Any) -> Path:
    layer = {**TINY, **SETTINGS, "data.path": "d", **settings}
    made = loop.train([("t", layer)], runs_dir=root / "runs", name=name, with_report=False)
    return made.run_dir


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """d/, and runs on it: r, other (of another seed), twin (of the same split)."""
    root, before = tmp_path_factory.mktemp("judged"), Path.cwd()
    photos(root / "d", 1)
    os.chdir(root)
    trained(root, "r")
    trained(root, "other", seed=1)
    trained(root, "twin", seed=2, **{"data.split_seed": 0})
    plain = {key: value for key, value in {**TINY, **SETTINGS}.items() if "model." not in key}
    layer = {**plain, "data.path": "d", "seed": 1, "from": "runs/r", "augment.mixup": 0.0}
    loop.train([("t", layer)], runs_dir=root / "runs", name="from", with_report=False)
    os.chdir(before)
    return root


@pytest.fixture
def place(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, as if the original were not there."""
    root = tmp_path / "place"
    shutil.copytree(begun, root)
    monkeypatch.chdir(root)
    real = os.path.lexists
    monkeypatch.setattr(
        "vitrail.evaluation.run_data.os.path.exists",
        lambda path: real(path) and os.path.realpath(path).startswith(str(root)),
    )
    return root


def good(*argv: object) -> dict[str, Any]:
    done = run("eval", *argv, "--json")
    assert done.code == 0, done.err
    document: dict[str, Any] = done.document
    return document


def bad(code: str, *argv: object) -> Done:
    done = run("eval", *argv)
    assert f"error {code}:" in done.err
    return done


def judged_in(folder: Path) -> list[str]:
    with open(folder / "predictions.csv", encoding="utf-8", newline="") as stream:
        return sorted(row["source"] for row in csv.DictReader(stream))


def state(run_dir: Path) -> dict[str, bytes]:
    """What the run itself wrote of its evaluations."""
    places = (run_dir / "eval" / name for name in ("test", "val"))
    return {str(path): path.read_bytes() for place in places for path in place.iterdir()}


def add(root: Path) -> None:
    photos(root / "d", 500, 9)


def remove_trained(root: Path) -> None:
    held = judged_in(root / "runs/r/eval/test") + judged_in(root / "runs/r/eval/val")
    for path in sorted((root / "d").rglob("*.png")):
        if path.relative_to(root / "d").as_posix() not in held and path.name < "1-09":
            path.unlink()


def rename_all(root: Path) -> None:
    for number, path in enumerate(sorted((root / "d").rglob("*.png"))):
        path.rename(path.with_name(f"x{997 * number % 1000:03}.png"))


def move_data(root: Path) -> None:
    (root / "far").mkdir()
    (root / "d").rename(root / "far" / "d")
    (root / "runs").rename(root / "far" / "runs")
    (root / "runs").symlink_to(root / "far" / "runs")


def another_of_the_name(root: Path) -> None:
    """From a folder where another dataset has the relative name of the run's."""
    photos(root / "elsewhere" / "d", 700)
    os.symlink(root / "runs", root / "elsewhere" / "runs")
    os.chdir(root / "elsewhere")


def into_splits(root: Path) -> None:
    """Somebody sorts the images into splits of his own; half of those trained on are test now."""
    (root / "d").rename(root / "old")
    for number, path in enumerate(sorted((root / "old").rglob("*.png"))):
        target = root / "d" / ("test" if number % 2 else "train") / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)


CHANGES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda root: None,
    "added": add,
    "training images removed": remove_trained,
    "renamed": rename_all,
    "moved together": move_data,
    "other splits": into_splits,
    "another dataset of the name": another_of_the_name,
}


@pytest.mark.promise("E1")
@pytest.mark.promise("E2")
@pytest.mark.parametrize("name", CHANGES)
def test_a_run_is_judged_on_what_it_recorded(place: Path, name: str) -> None:
    before = state(place / "runs/r")
    held = json.loads((place / "runs/r/eval/test/metrics.json").read_bytes())
    CHANGES[name](place)
    found = good("runs/r")
    assert (found["n"], found["judged"]["how"]) == (held["n"], "recorded")
    assert found["judged"]["trained_on"] == found["judged"]["chosen_on"] == 0
    assert found["top1"] == held["top1"]
    assert found["nll"] == pytest.approx(held["nll"], rel=1e-6)
    assert found["judged"]["new"] == (18 if name == "added" else 0)
    assert state(place / "runs/r") == before


@pytest.mark.promise("E1")
@pytest.mark.parametrize("how", ["replaced", "removed", "other data"])
def test_images_that_are_gone_are_counted_and_refused(place: Path, how: str) -> None:
    before = state(place / "runs/r")
    path = place / "d" / judged_in(place / "runs/r/eval/test")[0]
    if how == "replaced":
        path.write_bytes(encoded(noise(8, 8, seed=9), "PNG"))
    elif how == "removed":
        path.unlink()
    else:
        shutil.rmtree(place / "d")
        photos(place / "d", 900)
    done = bad("VIT-324", "runs/r")
    assert f"{6 if how == 'other data' else 1} of the 6 test images" in done.err
    assert "vitrail eval runs/r DATA" in done.err
    assert state(place / "runs/r") == before
    if how != "other data":
        found = good("runs/r", "d")  # what is there is judged where that is asked for
        assert (found["n"], found["judged"]["recorded"]) == (5, 6)


@pytest.mark.promise("E1")
def test_a_model_alone_knows_what_it_was_trained_on(place: Path) -> None:
    own = good("runs/r")
    (place / "moved").mkdir()
    shutil.move(place / "runs/r/model", place / "moved/m")
    found = good("moved/m", "d")
    assert found["judged"] == own["judged"]
    assert found["nll"] == own["nll"]
    shutil.make_archive("zipped", "zip", "moved/m")
    assert good("zipped.zip", "d")["judged"] == own["judged"]
    load("moved/m").save("again")
    assert good("again", "d")["judged"] == own["judged"]
    python = load("moved/m").evaluate("d")
    assert python.judged == own["judged"]
    assert python.nll == own["nll"]


@pytest.mark.promise("E1")
@pytest.mark.parametrize("how", ["removed", "damaged", "of another model", "a pipe"])
def test_a_model_without_its_record_says_that_it_cannot_tell(place: Path, how: str) -> None:
    record = place / "runs/r/model/examples.dat"
    record.unlink()
    if how == "damaged":
        record.write_bytes(b"half")
    elif how == "of another model":
        shutil.copy("runs/other/model/examples.dat", record)
    elif how == "a pipe":
        os.mkfifo(record)
    found = good("runs/r/model", "d")
    assert (found["n"], found["judged"]["trained_on"]) == (40, None)
    assert "examples.dat" in found["judged"]["unknown"]
    done = run("eval", "runs/r/model", "d")
    assert "whether they were trained on cannot be told" in done.out


@pytest.mark.promise("E1")
def test_other_data_is_judged_whole_and_what_was_trained_on_is_counted(place: Path) -> None:
    photos(place / "new", 300, 10)
    before = state(place / "runs/r")
    found = good("runs/r", "new")
    assert (found["n"], found["judged"]["how"], found["judged"]["trained_on"]) == (20, "all", 0)
    held = judged_in(place / "runs/r/eval/test") + judged_in(place / "runs/r/eval/val")
    seen = [
        path
        for path in sorted(place.glob("d/*/*.png"))
        if path.relative_to(place / "d").as_posix() not in held
    ][:5]
    for number, path in enumerate(seen):
        shutil.copy(path, place / "new" / "a" / f"copy{number}.png")
    found = good("runs/r", "new")
    assert (found["n"], found["judged"]["trained_on"]) == (25, 5)
    assert found["judged"]["without"]["n"] == 20
    text = run("eval", "runs/r/model", "new").out
    assert "5 of these 25 images were trained on" in text
    assert "no split is drawn" in text
    assert "top-1 of the 20 others" in text
    with pytest.warns(UserWarning, match="5 of these 25 images were trained on"):
        assert load("runs/r").evaluate("new").judged == found["judged"]
    assert state(place / "runs/r") == before
    assert {path.name for path in (place / "runs/r/eval").iterdir()} == {
        "test",
        "val",
        "on-new",
        "on-new-2",
    }


@pytest.mark.promise("E1")
def test_another_seed_and_what_a_run_starts_from_count_as_seen(place: Path) -> None:
    """Two runs of other seeds: the test images of one are training images of the other."""
    mine, theirs = (set(judged_in(place / f"runs/{name}/eval/test")) for name in ("r", "other"))
    assert mine != theirs
    found = good("runs/r", "--against", "runs/other")["against"]
    assert found["trained_on"] + found["n"] == 6
    assert found["trained_on"] >= 1
    assert good("runs/r", "--against", "runs/twin")["against"]["trained_on"] == 0
    seen = good("runs/from")["judged"]["trained_on"]
    r = load("runs/r").examples
    assert not isinstance(r, str)
    judged = open_given("d", "test", load("runs/from").examples).judged("test")
    assert judged.trained_on is not None
    expected = r.holds(digests_of(judged.source), "train")
    assert np.array_equal(judged.trained_on, expected)
    assert seen == int(expected.sum()) >= 1
    own = json.loads((place / "runs/from/eval/test/metrics.json").read_bytes())["judged"]
    assert own["trained_on"] == seen  # the run's own record says so too
    assert own["without"]["n"] == own["n"] - seen


@pytest.mark.promise("E1")
def test_nothing_is_compared_that_one_of_two_was_trained_on(place: Path) -> None:
    """A folder of images that "other" holds out, and that "r" was trained on."""
    known = load("runs/r").examples
    judged = open_given("d", "test", load("runs/other").examples).judged("test")
    assert not isinstance(known, str)
    assert isinstance(judged.source, FileSource)
    seen = np.flatnonzero(known.holds(digests_of(judged.source), "train"))
    for index in seen:
        target = place / "few" / judged.source.paths[index]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(judged.source.path(int(index)), target)
    done = bad("VIT-326", "runs/other", "few", "--against", "runs/r")
    assert f"every one of the {len(seen)} evaluated images was trained on" in done.err


@pytest.mark.promise("E2")
def test_every_evaluation_has_a_folder_of_its_own(place: Path) -> None:
    before = state(place / "runs/r")
    folder = place / "runs/r/eval"
    for options, name in (
        ((), "test"),
        (("--tta", "flip"), "test-flip"),
        (("--split", "train"), "train"),
        (("--against", "runs/twin"), "test-against"),
        (("--corruptions", "fog", "--severity", "1"), "test-corruptions"),
        (("--corruptions", "fog", "--severity", "2"), "test-corruptions-2"),
    ):
        first, second = (run("eval", "runs/r", *options) for _ in range(2))
        assert first.code == second.code == 0, first.err
        assert (folder / name / "metrics.json").is_file()
        assert f"{name} has this very evaluation; it stays" in second.out
    assert state(place / "runs/r") == before
    document = json.loads((place / "runs/r/model/model.json").read_bytes())
    del document["digest"]  # changed on purpose
    document["temperature"] = 2.0  # as --calibrate leaves it: another evaluation than at the end
    (place / "runs/r/model/model.json").write_text(json.dumps(document))
    assert "wrote runs/r/eval/test-2" in run("eval", "runs/r").out
    assert state(place / "runs/r") == before
    assert run("report", "runs/r").code == 0
    assert "test-flip" in (place / "runs/r/report.html").read_text(encoding="utf-8")


@pytest.mark.promise("E1")
def test_probes_use_the_splits_of_the_run(place: Path) -> None:
    photos(place / "d", 500, 9)
    (place / "other").mkdir()
    os.chdir(place / "other")
    options = ("--kind", "knn", "--no-cache", "--json")
    found = run("probe", "../runs/r", *options, "--out", "p.json").document
    assert found["n"] == 6
    assert any("6 test images that the run recorded" in note for note in found["notes"])
    alone = run("probe", "../runs/r/model", "../d", *options, "--out", "q.json").document
    varies = {"model", "file", "notes"}
    assert {k: v for k, v in alone.items() if k not in varies} == {
        k: v for k, v in found.items() if k not in varies
    }
    assert load("../runs/r").probe("../d", "knn", cache=False).n == 6


@pytest.mark.promise("E1")
def test_an_interrupted_run_is_judged_on_what_it_recorded(place: Path) -> None:
    layer = {**TINY, **SETTINGS, "data.path": "d", "steps": 30, "eval_every_epochs": 0.3}
    stopped = loop.train(
        [("t", layer)], runs_dir=place / "runs", name="s", reporter=StopAt(9), with_report=False
    )
    found = good(stopped.run_dir)
    assert (found["judged"]["how"], found["judged"]["trained_on"]) == ("recorded", 0)
    assert (stopped.run_dir / "eval" / "test-unfinished").is_dir()
    assert not (stopped.run_dir / "eval" / "test").exists()

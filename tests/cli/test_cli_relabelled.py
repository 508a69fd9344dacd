"""Where the images of a run are as it recorded them and only labels are others, that is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.cli_command import run
from tests.cli.test_cli_judged import good, judged_in, photos, trained
from vitrail.classifier import load
from vitrail.errors import DataError
from vitrail.evaluation.run_data import resumed


def as_folders(root: Path) -> None:
    photos(root / "d", 1)


def as_table(root: Path) -> None:
    photos(root / "images", 1)
    paths = sorted((root / "images").rglob("*.png"))
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in paths]
    (root / "d.csv").write_text("\n".join(["path,label", *rows]) + "\n")


def as_many_labels(root: Path) -> None:
    as_table(root)
    table = root / "d.csv"
    table.write_text(table.read_text().replace(",b\n", ",a|b\n"))


def as_arrays(root: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    np.savez(root / "d.npz", images=pixels, labels=np.arange(40) % 2)


def move(root: Path, name: str) -> None:
    """The image called `name` into the folder of the other class."""
    path = root / "d" / name
    path.rename(path.parents[1] / ("a" if path.parent.name == "b" else "b") / f"moved-{path.name}")


def edit(root: Path, name: str) -> None:
    """Its row of the table."""
    table = root / "d.csv"
    other = {"a": "b", "b": "a", "a|b": "a"}
    pattern = re.compile(rf"^(.*{re.escape(Path(name).name)}),(.*)$", re.MULTILINE)
    lines = table.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if name in line)
    lines[at] = pattern.sub(lambda found: f"{found[1]},{other[found[2]]}", lines[at])
    table.write_text("\n".join(lines) + "\n")


def exchange(root: Path, name: str) -> None:
    """Its label in the array."""
    with np.load(root / "d.npz") as file:
        images, labels = file["images"], file["labels"].copy()
    place = int(name.rpartition(":")[2])
    labels[place] = 1 - labels[place]
    np.savez(root / "d.npz", images=images, labels=labels)


Change = Callable[[Path, str], None]
FORMS: dict[str, tuple[Callable[[Path], None], Change, dict[str, Any]]] = {
    "folders": (as_folders, move, {}),
    "table": (as_table, edit, {"data.path": "d.csv"}),
    "several labels": (as_many_labels, edit, {"data.path": "d.csv"}),
    "arrays": (as_arrays, exchange, {"data.path": "d.npz"}),
}


@pytest.fixture(params=FORMS)
def form(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str, Change]:
    """A folder with a run r, where its data is, and what gives an image another label."""
    make, change, settings = FORMS[request.param]
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "r", **settings)
    return tmp_path, settings.get("data.path", "d"), change


@pytest.mark.promise("E1")
def test_other_labels_of_the_same_images_are_counted(form: tuple[Path, str, Change]) -> None:
    root, data, change = form
    assert "relabelled" not in good("runs/r")["judged"]
    for name in judged_in(root / "runs/r/eval/test")[:2]:
        change(root, name)
    for command in (("runs/r",), ("runs/r", data)):
        found = good(*command)
        assert (found["judged"]["how"], found["judged"]["relabelled"]) == ("recorded", 2)
        assert found["judged"]["trained_on"] == 0
    said = re.compile(r"2 of these \d images have other labels than the run recorded \(.+, .+\)")
    assert said.search(run("eval", "runs/r").out)
    with pytest.warns(UserWarning, match=said.pattern):
        load("runs/r").evaluate(data)
    told = run("probe", "runs/r", "--kind", "knn", "--no-cache", "--json", "--out", "p.json")
    if told.code == 0:  # a probe wants one label an image
        assert any(said.search(note) for note in told.document["notes"])
    with pytest.raises(DataError, match="2 test images of another class"):
        resumed(root / "runs/r", data)


@pytest.mark.promise("E1")
def test_against_and_calibration_say_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "twin", seed=2, **{"data.split_seed": 0})
    for split in ("test", "val"):
        move(tmp_path, judged_in(tmp_path / f"runs/twin/eval/{split}")[0])
    assert "temperature: 1 of these" in run("eval", "runs/twin", "--calibrate").err
    done = run("eval", "runs/twin/model", "d", "--against", "runs/twin")  # whose record has labels
    assert done.code == 0, done.err
    assert "runs/twin: 1 of these" in done.err

"""A run that was interrupted after an evaluation is a model for every verb."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vitrail
from tests.cli.cli_command import run
from tests.training.running import StopAt, train, train_from
from vitrail.errors import ModelError
from vitrail.training import loop
from vitrail.training.plan.plan_run import plan_run

pytestmark = [pytest.mark.promise("R17"), pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 13 steps with averaged weights, stopped after 9; evaluated at every 5th or so."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder, "s", reporter=StopAt(9), ema=0.9)
    return folder / "s"


@pytest.fixture
def copy(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stopped, "runs/s")
    return Path("runs/s")


def best_step(place: Path) -> int:
    return int(json.loads((place / "run.json").read_text())["best"]["step"])


def weights_of(place: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(place / "checkpoints" / f"step-{step:08d}" / "ema.safetensors")


def test_its_model_is_that_of_the_best_evaluation_and_says_so(copy: Path) -> None:
    model = vitrail.load(copy)
    best = best_step(copy)
    expected = weights_of(copy, best)
    found = model.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert model.classes == [str(number) for number in range(10)]
    (note,) = model.meta.notes
    assert f"averaged weights of its best evaluation so far, step {best} " in note
    assert note.endswith("to go on: vitrail train --resume runs/s")


def test_every_verb_takes_it_and_says_so(copy: Path) -> None:
    assert run("data", "get", "digits", "digits").code == 0
    image = str(sorted(Path("digits/test").rglob("*.png"))[0])
    calls = (
        ("predict", copy, image),
        ("eval", copy, "--split", "val"),
        ("explain", copy, image, "--method", "rollout", "--out", "maps"),
        ("probe", copy, "builtin:digits", "--kind", "knn", "--k", "1"),
        ("convert", copy, "model", "--to", "vitrail"),
        ("convert", copy, "timm", "--to", "timm"),
    )
    for words in calls:
        done = run(*words)
        assert done.code == 0, (words, done.err)
        assert "best evaluation so far" in done.out + done.err, words
    expected, found = (
        vitrail.load(copy).model.state_dict(),
        vitrail.load("model").model.state_dict(),
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_new_run_starts_from_it_and_says_so(copy: Path) -> None:
    plan = plan_run([("test", {"data.path": "builtin:digits", "from": str(copy), "steps": 2})])
    assert "best evaluation so far" in plan.changes[0]


def test_a_damaged_best_gives_way_to_the_newest_evaluation(copy: Path) -> None:
    best = best_step(copy)
    file = copy / "checkpoints" / f"step-{best:08d}" / "ema.safetensors"
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    others = [int(path.name[5:]) for path in copy.glob("checkpoints/step-*")]
    if max(others) == best:
        with pytest.raises(ModelError) as caught:
            vitrail.load(copy)
        assert caught.value.code == "VIT-405"
        return
    said = vitrail.load(copy).meta.notes
    assert f"VIT-405: checkpoint step-{best:08d} is damaged (ema.safetensors: sha256" in said[0]
    assert f"step {max(others)} " in said[1]


def test_before_the_first_evaluation_there_is_no_model(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")
    done = run("predict", copy, "a.png")
    assert done.code in (2, 3, 4)
    with pytest.raises(ModelError, match="was not evaluated once") as caught:
        vitrail.load(copy)
    assert caught.value.code == "VIT-432"


def test_adapters_are_merged(tmp_path: Path, copy: Path) -> None:
    assert run("convert", copy, "start", "--to", "vitrail").code == 0
    train_from(tmp_path, Path("start"), "lora", lora__rank=2, reporter=StopAt(9))
    model = vitrail.load("lora").model
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    straight = loop.resume(Path("lora"), with_report=False)
    assert straight.stopped is None


def test_a_finished_run_is_trained_on_by_the_command_that_resume_names(copy: Path) -> None:
    loop.resume(copy, with_report=False)
    done = run("train", "--resume", copy)
    assert (done.code, "VIT-408" in done.err) == (4, True)
    command = re.search(r"into a new run: vitrail (.*)", done.err)
    assert command is not None
    words = shlex.split(command[1])
    assert words[:4] == ["train", "builtin:digits", "--from", "runs/s"]
    words[words.index("--epochs") + 1] = "0.1"
    done = run(*words, "--name", "on", "-q")
    assert done.code == 0, done.err
    start = json.loads(Path("runs/on/run.json").read_text())["from"]
    assert start["model"] == "runs/s"
    before = vitrail.load(copy).model.state_dict()["head.weight"]
    after = vitrail.load("runs/on").model.state_dict()["head.weight"]
    assert float((before - after).abs().max()) < 0.5 * float(before.abs().max())  # no new head

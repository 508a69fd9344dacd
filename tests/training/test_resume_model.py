"""A run goes on with the model that it began with: whatever becomes of run.json and data.json, of
`--map`, or of the files of the model that it started from or learns from, nothing else is taken in
silence (R15).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import vitrail
from tests.checkpoints.origins.test_name_map import example, home_made
from tests.training.broken_runs import Listening, faults, outcome
from tests.training.running import StopAt, records, resume, train, train_from, weights
from vitrail.classifier import load
from vitrail.errors import ModelError
from vitrail.training import loop

SEED = int(os.environ.get("VITRAIL_TEST_SEED", "0"))
DOCUMENTS = ("run.json", "data.json", "examples.dat")
SETTINGS: dict[str, Any] = {
    "start__map": "map.toml",
    "image_size": 12,
    "steps": 13,
    "save_every_steps": 3,
    "ema": 0.9,
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """own.pth, a home-made model; map.toml, its names; runs from it: "straight" to its end and
    "stopped" on the way.
    """
    root, before = tmp_path_factory.mktemp("begun"), Path.cwd()
    os.chdir(root)
    torch.save(home_made().state_dict(), "own.pth")
    (root / "map.toml").write_text(example("nn.TransformerEncoder"), encoding="utf-8")
    train_from(root, Path("own.pth"), "straight", **SETTINGS)
    train_from(root, Path("own.pth"), "stopped", reporter=StopAt(7), **SETTINGS)
    yield root
    os.chdir(before)


@pytest.fixture
def place(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "place"
    shutil.copytree(begun, root)
    monkeypatch.chdir(root)
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, text
    path.write_text(text.replace(old, new), encoding="utf-8")


LAYER, NORM = '"encoder.layers.{i}.norm', '"blocks.{i}.norm'
EDITS = {  # of map.toml; none of them but the first changes a tensor
    "names": (f'{NORM}1"\n{LAYER}2" = {NORM}2', f'{NORM}2"\n{LAYER}2" = {NORM}1'),
    "classes": ('"ant"', '"wasp"'),
    "activation": ('gelu = "relu"', 'gelu = "gelu"'),
    "epsilon": ("ln_eps = 1e-5", "ln_eps = 1e-3"),
    "order": ('block = "post"', 'block = "pre"'),
    "heads": ("num_heads = 4", "num_heads = 3"),
    "pool": ('pool = "cls"', 'pool = "gap"'),
    "mean": ("0.4914", "0.5"),
}


@pytest.mark.promise("R15")
@pytest.mark.parametrize("name", EDITS)
def test_before_a_checkpoint_an_edited_map_is_refused(place: Path, name: str) -> None:
    edit(place / "map.toml", *EDITS[name])
    shutil.rmtree(place / "stopped" / "checkpoints")
    with pytest.raises(ModelError) as caught:
        resume(place / "stopped")
    assert caught.value.code == "VIT-404", caught.value
    assert "own.pth (start.model)" in caught.value.message
    assert "--map" in caught.value.hint


@pytest.mark.promise("R1")
def test_with_a_checkpoint_the_map_is_not_needed(place: Path) -> None:
    (place / "map.toml").write_text("[names]\n", encoding="utf-8")
    resume(place / "stopped")
    assert weights(place / "stopped") == weights(place / "straight")
    assert records(place / "stopped") == records(place / "straight")


@pytest.mark.promise("R15")
@pytest.mark.parametrize(
    ("key", "new"), [("map", "other.toml"), ("given", "num_heads=3"), ("table", "model_ema")]
)
def test_another_reading_in_the_settings_is_refused(place: Path, key: str, new: str) -> None:
    shutil.copy(place / "map.toml", place / "other.toml")
    old = {"map": "map.toml"}.get(key, "")
    edit(place / "stopped" / "config.toml", f'{key} = "{old}"', f'{key} = "{new}"')
    with pytest.raises(ModelError, match=f"start.{key} = '{new}', was '{old}'") as caught:
        resume(place / "stopped")
    assert caught.value.code == "VIT-410"


def other_value(document: dict[str, Any], key: str) -> None:
    """One value of run.json that the model is built from, as a flipped bit may leave it."""
    if key in document["model"]:
        document["model"][key] = {"relu": "gelu", 4: 2, 1e-5: 1e-3}[document["model"][key]]
    else:
        document["preprocess"][key][0] += 0.25


@pytest.mark.promise("R15")
@pytest.mark.parametrize("early", [False, True])
def test_a_changed_record_of_the_model_is_mended(place: Path, early: bool) -> None:
    run = place / "stopped"
    if early:
        shutil.rmtree(run / "checkpoints")
    document = json.loads((run / "run.json").read_text())
    for key in ("gelu", "num_heads", "ln_eps", "mean"):
        other_value(document, key)
    (run / "run.json").write_text(json.dumps(document))
    reporter = Listening()
    loop.resume(run, reporter=reporter, with_report=False)
    what = "run.json: model, preprocess was not as the run wrote it; taken from step-"
    assert any(what in text for text in reporter.said) is not early, reporter.said
    assert weights(run) == weights(place / "straight")
    found, expected = (
        json.loads((place / name / "run.json").read_text()) for name in ("stopped", "straight")
    )
    assert {k: found[k] for k in ("model", "preprocess")} == {
        k: expected[k] for k in ("model", "preprocess")
    }


MANY = pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


@pytest.mark.promise("R15")
@pytest.mark.parametrize("count", [3, MANY])
def test_a_damaged_document_changes_nothing_in_silence(
    place: Path, tmp_path: Path, count: int
) -> None:
    """Refused, mended and said, or without effect."""
    whole, straight = place / "stopped", place / "straight"
    for fault in faults(whole, count, SEED, DOCUMENTS):
        found = outcome(whole, straight, fault, tmp_path)
        assert not found.is_silent, fault
        assert found.finished or found.refused, fault


@pytest.mark.promise("R16")
def test_a_stopped_run_answers_by_its_checkpoint_alone(place: Path) -> None:
    """Not by documents beside it, in which nothing tells a flipped bit."""
    run = place / "stopped"
    before = vitrail.load(run)
    document = json.loads((run / "run.json").read_text())
    for key in ("gelu", "mean"):
        other_value(document, key)
    (run / "run.json").write_text(json.dumps(document))
    facts = json.loads((run / "data.json").read_text())
    facts["classes"] = facts["classes"][::-1]
    (run / "data.json").write_text(json.dumps(facts))
    found = vitrail.load(run)
    assert found.classes == before.classes
    assert found.preprocess == before.preprocess
    assert found.model.config == before.model.config


def other_function(folder: Path) -> None:
    """The same weights and classes, read as another model, saved over it."""
    found = load(folder)
    mean = found.preprocess.mean
    changed = tuple(value + 0.25 for value in mean)
    found.preprocess = found.preprocess.model_copy(update={"mean": changed})
    before = load_file(folder / "model.safetensors")
    found.save(folder, replace=True)
    after = load_file(folder / "model.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.promise("R15")
@pytest.mark.parametrize("role", ["teacher", "start"])
def test_another_function_of_the_same_weights_is_refused(tmp_path: Path, role: str) -> None:
    run = train(tmp_path, "source", steps=2, augment__policy="none", augment__mixup=0.0).run_dir
    own = tmp_path / "own"
    shutil.copytree(run / "model", own)
    begin: dict[str, Callable[[], Any]] = {
        "teacher": lambda: train(tmp_path, teacher=str(own), reporter=StopAt(4)),
        "start": lambda: train_from(tmp_path, own, reporter=StopAt(4)),
    }
    stopped = begin[role]().run_dir
    if role == "start":
        shutil.rmtree(stopped / "checkpoints")
    other_function(own)
    with pytest.raises(ModelError) as caught:
        resume(stopped)
    assert caught.value.code == "VIT-404"

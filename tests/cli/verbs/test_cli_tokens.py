"""`--tokens` of predict, eval and explain, on a model folder and three images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.cli_command import run
from tests.cli.verbs.small_place import save_place
from tests.models.check_model import random_model
from vitrail.classifier import Classifier, load
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.bit.config import BiTConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ and data/CLASS/*.png."""
    return save_place(tmp_path_factory.mktemp("tokens"), 2, depth=3)


def test_predict_records_the_share(place: Path) -> None:
    model, image = place / "model", place / "data" / "a" / "0.png"
    plain = run("--json", "predict", model, image).document
    whole = run("--json", "predict", model, image, "--tokens", 1).document
    fewer = run("--json", "predict", model, image, "--tokens", 0.4).document
    assert [one | {"tokens": 1} for one in plain] == whole
    assert fewer[0]["tokens"] == 0.4
    assert fewer[0]["top"] != plain[0]["top"]


def test_eval_records_the_share(place: Path, tmp_path: Path) -> None:
    done = run("eval", place / "model", place / "data", "--tokens", 0.4, "--out", tmp_path / "e")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["tokens"] == 0.4


def test_explain_asks_the_model_as_it_stands(place: Path, tmp_path: Path) -> None:
    image = place / "data" / "a" / "0.png"
    ask = ("explain", place / "model", image, "--tokens", 0.4, "--out")
    done = run("--json", *ask, tmp_path / "maps")
    assert done.code == 0, done.err
    assert (tmp_path / "maps" / "0-occlusion.png").is_file()
    merged = load(place / "model", tokens=0.4).explain(image, "occlusion")
    whole = load(place / "model").explain(image, "occlusion")
    assert merged.grid.shape == whole.grid.shape == (7, 5)
    assert np.abs(merged.grid - whole.grid).max() > 1e-4
    drawn = run("--json", *ask, tmp_path / "drawn", "--method", "merging").document
    assert drawn[0]["facts"]["left"] == [25, 14, 14]
    assert (tmp_path / "drawn" / "0-merging.png").is_file()
    refused = run(*ask, tmp_path / "more", "--method", "rollout")
    assert refused.code == 2
    assert "VIT-288" in refused.err


def test_an_answer_of_fewer_tokens_is_another_identity(place: Path) -> None:
    shares = [None, 1.0, 0.4, 0.6]
    found = [load(place / "model", tokens=share).identity for share in shares]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize("share", [0, 1.5, -1])
def test_a_share_that_is_none_is_refused(place: Path, share: float) -> None:
    done = run("predict", place / "model", place / "data", "--tokens", share)
    assert done.code == 2
    assert "VIT-288" in done.err


def test_models_without_tokens_and_other_engines_are_refused(place: Path, tmp_path: Path) -> None:
    config = BiTConfig(image_size=(32, 32), depths=(1, 1), num_classes=3, stem="small")
    network = random_model(config, dtype=torch.float32)
    preprocess = Preprocess(height=32, width=32, resize=(32, 32))
    Classifier(network, preprocess, ["a", "b", "c"]).save(tmp_path / "bit")
    for ask in (
        ("predict", tmp_path / "bit", place / "data", "--tokens", 0.5),
        ("predict", place / "model", place / "data", "--tokens", 0.5, "--engine", "onnx"),
    ):
        done = run(*ask)
        assert done.code == 2
        assert "VIT-288" in done.err

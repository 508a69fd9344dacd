"""`--patch` of predict, eval, explain, convert and export, on a model folder and a few images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.cli_command import run
from tests.cli.verbs.small_place import save_place
from vitrail.classifier import load
from vitrail.models.vit.model import ViT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, of patches of 3, 7x5 and 21x15 px, and data/CLASS/*.png."""
    return save_place(tmp_path_factory.mktemp("patch"), 6, depth=2, patch_sizes="3,7x5,21x15")


def test_predict_records_the_patch(place: Path) -> None:
    model, image = place / "model", place / "data" / "a" / "0.png"
    plain = run("--json", "predict", model, image).document
    own = run("--json", "predict", model, image, "--patch", 3).document
    other = run("--json", "predict", model, image, "--patch", "7x5").document
    assert own[0]["patch"] == [3, 3]
    assert other[0]["patch"] == [7, 5]
    assert own[0]["top"][0]["score"] == pytest.approx(plain[0]["top"][0]["score"], abs=1e-6)
    assert other[0]["top"] != plain[0]["top"]
    both = run("--json", "predict", model, image, "--patch", "7x5", "--tokens", 0.5).document
    assert (both[0]["patch"], both[0]["tokens"]) == ([7, 5], 0.5)


def test_the_runtime_is_that_of_the_patch(place: Path) -> None:
    found = load(place / "model", patch=(7, 5))
    image = np.random.default_rng(0).random((1, 3, 21, 15), np.float32)
    plain = found.probabilities(image)
    again = load(place / "model")
    again._runtime = again.torch_runtime()
    assert np.array_equal(again.at_patch((7, 5)).probabilities(image), plain)


def test_eval_records_the_patch(place: Path, tmp_path: Path) -> None:
    ask = ("eval", place / "model", place / "data", "--patch", "7x5", "--out", tmp_path / "e")
    assert run(*ask).code == 0
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["patch"] == [7, 5]


def test_explain_is_at_that_patch(place: Path, tmp_path: Path) -> None:
    image = place / "data" / "a" / "0.png"
    ask = ("--json", "explain", place / "model", image, "--method", "rollout", "--out")
    assert run(*ask, tmp_path / "own").document[0]["grid"] == [7, 5]
    assert run(*ask, tmp_path / "other", "--patch", "7x5").document[0]["grid"] == [3, 3]


def test_convert_writes_one_size(place: Path, tmp_path: Path) -> None:
    model = place / "model"
    for out, more in (("whole", []), ("one", ["--patch", "7x5"])):
        done = run("convert", model, tmp_path / out, "--to", "vitrail", *more)
        assert done.code == 0, done.err
    kept, one = (load(tmp_path / name).model for name in ("whole", "one"))
    assert isinstance(kept, ViT)
    assert isinstance(one, ViT)
    assert len(kept.config.patch_sizes) == 3
    assert (one.config.patch_size, one.config.patch_sizes) == ((7, 5), ())
    done = run("--json", "convert", model, tmp_path / "timm", "--to", "timm")
    assert done.code == 0, done.err
    assert "patches of other sizes than 3 px" in done.document["not_kept"]
    assert done.document["architecture"]["patch_size"] == [3, 3]


def test_an_export_has_one_size(place: Path, tmp_path: Path) -> None:
    ask = ("export", place / "model", tmp_path / "x", "--to", "torch-export")
    done = run(*ask, "--images", place / "data", "--patch", "7x5")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "x" / "model.json").read_text())
    assert record["architecture"]["numbers"]["patch_size"] == [7, 5]
    assert record["architecture"]["numbers"]["patch_sizes"] == []
    refused = run("predict", tmp_path / "x", place / "data", "--patch", 3)
    assert refused.code == 2
    assert "VIT-289" in refused.err


@pytest.mark.parametrize(("patch", "code"), [("5", "VIT-289"), ("0", "VIT-202"), ("x", "VIT-202")])
def test_other_sizes_are_refused(place: Path, patch: str, code: str) -> None:
    done = run("predict", place / "model", place / "data", "--patch", patch)
    assert done.code == 2
    assert code in done.err

"""Names of classes and scores of a folder: what does not fit the head is said, never taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vitrail
from tests.golden.case import CASES
from vitrail.errors import ModelError


def folder(tmp_path: Path, case: str = "hf_vit", outputs: int = 7, **config: Any) -> Path:
    """A golden folder with a head of so many outputs and other values in config.json."""
    out = tmp_path / "m"
    shutil.copytree(CASES / case, out, ignore=shutil.ignore_patterns("*.npz", "case.json"))
    tensors = load_file(out / "model.safetensors")
    head = "classifier" if case.startswith("hf") else "head"
    for part in ("weight", "bias"):
        tensors[f"{head}.{part}"] = tensors[f"{head}.{part}"][:outputs].clone()
    save_file(tensors, out / "model.safetensors")
    values = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(values | config))
    return out


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("case", "labels"),
    [
        ("hf_vit", {"id2label": {str(i): f"imagenet{i}" for i in range(1000)}}),
        ("hf_vit", {"id2label": {str(i): f"name{i}" for i in range(3)}}),
        ("hf_vit", {"id2label": {str(i + 1): f"name{i}" for i in range(7)}}),
        ("hf_vit", {"id2label": [f"name{i}" for i in range(7)]}),
        ("hf_vit", {"id2label": {str(i): {"en": f"name{i}"} for i in range(7)}}),
        ("hf_vit", {"id2label": None, "label2id": {f"name{i}": i for i in range(7)}}),
        ("timm_vit_token", {"label_names": [f"imagenet{i}" for i in range(1000)]}),
        ("timm_vit_token", {"id2label": {str(i): f"imagenet{i}" for i in range(1000)}}),
    ],
)
def test_names_of_another_head_are_not_taken(
    tmp_path: Path, case: str, labels: dict[str, Any]
) -> None:
    found = vitrail.load(folder(tmp_path, case, **labels))
    assert found.classes == []
    assert any("no name is taken" in note for note in found.meta.notes)


@pytest.mark.parametrize("nothing", [None, "", " \n"])
def test_a_name_that_is_null_is_its_number(tmp_path: Path, nothing: str | None) -> None:
    labels = {str(i): nothing if i == 3 else f"name{i}" for i in range(7)}
    found = vitrail.load(folder(tmp_path, id2label=labels))
    assert found.classes[2:5] == ["name2", "3", "name4"]


@pytest.mark.promise("M8")
def test_two_tables_of_names_that_differ(tmp_path: Path) -> None:
    names = {str(i): f"name{i}" for i in range(7)}
    back = {f"name{i}": 6 - i for i in range(7)}
    found = vitrail.load(folder(tmp_path, id2label=names, label2id=back))
    assert found.classes[:2] == ["name0", "name1"]
    assert any("label2id" in note and "id2label is followed" in note for note in found.meta.notes)


@pytest.mark.promise("M8")
@pytest.mark.parametrize("case", ["hf_vit", "timm_vit_token"])
def test_one_output_is_a_sigmoid(tmp_path: Path, case: str) -> None:
    """transformers' pipeline: the softmax of one number would be 1 for every image."""
    found = vitrail.load(folder(tmp_path, case, outputs=1))
    assert found.meta.scores == "sigmoid"
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        logit = found.model(found.preprocess(image)[None])
    score = found.predict(image)[0].score
    assert score == pytest.approx(float(logit.sigmoid()), abs=1e-6)
    assert any(fact.field == "scores" for fact in found.meta.facts)


def test_an_image_size_that_is_not_of_the_weights(tmp_path: Path) -> None:
    """As ignore_mismatched_sizes leaves it: no damage."""
    with pytest.raises(ModelError, match="pos_embed") as caught:
        vitrail.load(folder(tmp_path, image_size=64))
    assert (caught.value.code, "--set image_size=" in caught.value.hint) == ("VIT-413", True)
    found = vitrail.load(tmp_path / "m", given={"image_size": (32, 32)})
    assert (found.preprocess.height, found.preprocess.width) == (32, 32)

"""Families of transformers beside ViT: what the library itself answers, and what it is refused for.

The folders are made by make_families.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.checkpoints.external import read_external
from vitrail.checkpoints.huggingface.config import OTHERS
from vitrail.checkpoints.huggingface.preprocess import CLIP
from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET_MEAN
from vitrail.errors import ModelError
from vitrail.models.vit.config import ViTConfig

FAMILIES = Path(__file__).with_name("families")
CLASSES = {"clip_classifier": 5, "clip_projection": 7, "vit_msn": 5, "ijepa": 5}
MEANS = {"clip": CLIP[0], "siglip": (0.5, 0.5, 0.5)}


@pytest.mark.promise("M6")
@pytest.mark.parametrize("name", sorted(path.name for path in FAMILIES.iterdir()))
def test_the_library_answers_the_same(name: str) -> None:
    foreign = read_external(FAMILIES / name)
    assert foreign.origin == "huggingface"
    assert isinstance(foreign.config, ViTConfig)
    assert (foreign.config.num_classes, foreign.config.num_heads) == (CLASSES.get(name, 0), 3)
    assert foreign.classes == (tuple("abcde") if CLASSES.get(name) == 5 else ())
    with np.load(FAMILIES / name / "io.npz") as file:
        x, expected = (torch.from_numpy(file[key]) for key in ("x", "expected"))
    with torch.no_grad():
        found = foreign.model(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5
    family = name.split("_")[0]
    assert foreign.preprocess.mean == MEANS.get(family, IMAGENET_MEAN)
    assert not foreign.report.unused
    left_out = [theirs for theirs, _ in foreign.report.left_out]
    assert bool(left_out) == (name in ("vit_mae", "clip_classifier"))
    assert all("decoder" in theirs or "post_layernorm" in theirs for theirs in left_out)


def test_what_a_head_does_not_read_is_said() -> None:
    foreign = read_external(FAMILIES / "clip_classifier")
    told = dict(foreign.report.left_out)
    assert "before this norm" in told["vision_model.post_layernorm.weight"]


@pytest.mark.parametrize("kind", [*OTHERS, "swin_of_tomorrow"])
def test_other_kinds_are_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    """Nothing is offered that would make another model of it."""
    folder = tmp_path / "model"
    shutil.copytree(FAMILIES / "vit_msn", folder)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        read_external(folder)
    assert caught.value.code == "VIT-418"
    assert OTHERS.get(kind, "no Vision Transformer that is read") in caught.value.message
    assert "Did you mean" not in caught.value.message


@pytest.mark.promise("M6")
@pytest.mark.parametrize("name", ["clip_projection", "vit_msn", "ijepa", "siglip_rest"])
def test_a_control_that_must_fail(tmp_path: Path, name: str) -> None:
    """With another activation, eps or number of heads the outputs do not agree."""
    folder = tmp_path / "model"
    shutil.copytree(FAMILIES / name, folder)
    with np.load(FAMILIES / name / "io.npz") as file:
        x, expected = (torch.from_numpy(file[key]) for key in ("x", "expected"))
    for change in ({"num_attention_heads": 2}, {"hidden_act": "quick_gelu"}):
        config = json.loads((FAMILIES / name / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        with torch.no_grad():
            assert (read_external(folder).model(x) - expected).abs().max() > 1e-4

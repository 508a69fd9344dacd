"""Every method on every kind of model, and what is refused with which code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.small_models import KINDS, bit, picture, resnet, vit
from vitrail.errors import ModelError, UsageError
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import METHODS, checked, default_method, explain, methods_of
from vitrail.models.create import Model


def model_of(kind: str) -> Model:
    """float32, as users have them."""
    if kind == "resnet":
        return resnet(torch.float32)
    return bit(torch.float32) if kind == "bit" else vit(kind, torch.float32)


@pytest.mark.parametrize("kind", [*KINDS, "bit", "resnet"])
def test_every_method_that_the_model_has(kind: str) -> None:
    model = model_of(kind)
    images = picture(model)
    with torch.no_grad():
        logits = model(images)[0].numpy()
    names = methods_of(model)
    wanted = (
        [name for name in METHODS if name != "merging"]
        if kind not in ("bit", "resnet")
        else [
            "gradcam",
            "integrated-gradients",
            "occlusion",
            "random",
        ]
    )
    assert names == wanted
    for name in names:
        found = explain(model, images, Request(name, steps=3 if "gradients" in name else None))
        assert found.grid.dtype == np.float32
        assert np.isfinite(found.grid).all()
        assert np.abs(found.logits - logits).max() <= 1e-5 * max(1, np.abs(logits).max())
        assert (found.target is None) == (not METHODS[name].has_target)
        assert found.target in (None, int(logits.argmax()))
        for values in found.layers.values():
            assert values.shape == found.grid.shape
        if name in ("attention", "rollout", "relevance") and found.matrix is not None:
            P = found.grid.size
            assert found.matrix.shape == (P, P)
        if name in ("attention", "rollout", "relevance", "gradcam"):
            assert found.grid.min() >= 0


def test_defaults() -> None:
    assert default_method(vit("cls")) == "relevance"
    assert default_method(bit()) == "gradcam"
    assert default_method(resnet()) == "gradcam"
    headless = vit("cls", num_classes=0)
    assert default_method(headless) == "rollout"
    assert methods_of(headless) == ["attention", "rollout", "random"]
    for name in methods_of(headless):
        assert explain(headless, picture(headless), Request(name)).logits.shape == (0,)
    assert checked(vit("cls"), Request()).method == "relevance"
    assert checked(vit("cls"), Request("attention")).layer == 1
    assert checked(vit("map"), Request("attention", layer=-2)).layer == 0


@pytest.mark.parametrize(
    ("kind", "options", "code", "way"),
    [
        ("cls", {"method": "rolout"}, "VIT-270", "Did you mean rollout?"),
        ("bit", {"method": "rollout"}, "VIT-271", "gradcam, integrated-gradients, occlusion"),
        ("bit", {"method": "attention"}, "VIT-271", "gradcam"),
        ("resnet", {"method": "relevance"}, "VIT-271", "a residual network has no attention"),
        ("resnet", {"method": "gradcam", "layer": 0}, "VIT-274", "stem; stage0; stage1"),
        ("headless", {"method": "relevance"}, "VIT-272", "attention, rollout, random"),
        ("cls", {"method": "rollout", "target": 1}, "VIT-273", "Leave it out"),
        ("cls", {"method": "rollout", "layer": 1}, "VIT-273", "which takes token"),
        ("cls", {"method": "relevance", "head": 0}, "VIT-273", "target, token"),
        ("cls", {"method": "gradcam", "token": (0, 0)}, "VIT-273", "layer, target"),
        ("cls", {"method": "occlusion", "seed": 1}, "VIT-273", "target"),
        ("cls", {"method": "attention", "layer": 2}, "VIT-274", "0 to 1"),
        ("cls", {"method": "attention", "layer": -3}, "VIT-274", "0 to 1"),
        ("cls", {"method": "attention", "layer": "pool"}, "VIT-274", "0 to 1"),
        ("map", {"method": "attention", "layer": "head"}, "VIT-274", "pool"),
        ("cls", {"method": "gradcam", "layer": "feature_map"}, "VIT-274", "0 to 1"),
        ("bit", {"method": "gradcam", "layer": 0}, "VIT-274", "stem; stage0; stage1"),
        ("cls", {"method": "attention", "head": 3}, "VIT-274", "there are 3"),
        ("seq", {"method": "attention", "head": 1}, "VIT-274", "there are 1"),
        ("map", {"method": "attention", "token": (0, 0)}, "VIT-275", "layer -1"),
        ("cls", {"method": "rollout", "token": (2, 0)}, "VIT-275", "1,2"),
        ("cls", {"method": "rollout", "token": (0, 3)}, "VIT-275", "2 x 3 patches"),
        ("cls", {"method": "relevance", "target": 5}, "VIT-276", "5 classes"),
        ("cls", {"method": "relevance", "target": -1}, "VIT-276", "from 0"),
        ("cls", {"method": "integrated-gradients", "steps": 0}, "VIT-202", "1 to 1000"),
    ],
)
def test_what_is_refused(kind: str, options: dict[str, Any], code: str, way: str) -> None:
    model = vit("cls", num_classes=0) if kind == "headless" else model_of(kind)
    with pytest.raises(UsageError) as caught:
        explain(model, picture(model), Request(**options))
    assert caught.value.code == code
    assert way in str(caught.value)


def test_numbers_that_are_not_finite_are_refused() -> None:
    model = vit("cls")
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError) as caught:
        explain(model, picture(model), Request("rollout"))
    assert caught.value.code == "VIT-442"


def test_a_token_is_a_row_of_the_matrix() -> None:
    model = vit("registers")
    for name in ("rollout", "relevance"):
        whole = explain(model, picture(model), Request(name))
        assert whole.matrix is not None
        one = explain(model, picture(model), replace(Request(name), token=(1, 2)))
        assert np.array_equal(one.grid, whole.matrix[5].reshape(2, 3))
        assert one.facts["token"] == (1, 2)

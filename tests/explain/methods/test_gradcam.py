"""Grad-CAM: closed form on the last map of a residual network, the graph's gradients on tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.explain.small_models import KINDS, bit, picture, resnet, vit
from tests.models.check_model import tapped
from vitrail.explain.methods.gradcam import feature_maps, weighted_channels
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import explain
from vitrail.models.create import ResidualNet


def test_by_hand() -> None:
    """Two positions, two channels; channel means of the gradient are 1 and -2."""
    values = torch.tensor([[3.0, 1], [1, 5]])
    gradient = torch.tensor([[2.0, -1], [0, -3]])
    assert weighted_channels(values, gradient).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("kind", [bit, resnet])
def test_last_map_of_a_residual_network_in_closed_form(kind: Callable[[], ResidualNet]) -> None:
    """logit = w . mean + b, so every channel's gradient is w / (h w): class activation mapping."""
    model = kind()
    images = picture(model)
    _, store = tapped(model, images, "feature_map")
    values = store["feature_map"][0].detach()  # (C, h, w)
    weights = model.head.fc.weight[3].detach().flatten() / values[0].numel()
    expected = torch.einsum("c,chw->hw", weights, values).clamp(min=0)
    assert expected.max() > 0
    found = explain(model, images, Request("gradcam", target=3))
    assert found.target == 3
    assert np.abs(found.grid - expected.numpy()).max() <= 1e-12


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_maximum_weighs_channels_as_a_mean_does(pool: str) -> None:
    """Its gradient is w at one position, the mean over positions again w / (h w)."""
    model = resnet(pool=pool)
    found = explain(model, picture(model), Request("gradcam", target=3))
    _, store = tapped(model, picture(model), "feature_map")
    values = store["feature_map"][0].detach()
    weights = model.head.fc.weight[3].detach().flatten() / values[0].numel()
    expected = torch.einsum("c,chw->hw", weights, values).clamp(min=0)
    assert np.abs(found.grid - expected.numpy()).max() <= 1e-12


@pytest.mark.parametrize("kind", [bit, resnet])
@pytest.mark.parametrize("name", ["stem", "stage0", "stage1"])
def test_other_maps_of_a_residual_network(name: str, kind: Callable[[], ResidualNet]) -> None:
    model = kind()
    assert feature_maps(model) == ["stem", "stage0", "stage1", "feature_map"]
    found = explain(model, picture(model), Request("gradcam", layer=name))
    logits, store = tapped(model, picture(model), name)
    slope = torch.autograd.grad(logits[0, found.target], store[name])[0][0].flatten(1).mean(dim=1)
    expected = torch.einsum("c,chw->hw", slope, store[name][0]).clamp(min=0).detach().numpy()
    assert found.grid.shape == store[name].shape[2:]
    assert np.abs(found.grid - expected).max() <= 1e-10 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [0, -1])
def test_tokens(kind: str, layer: int) -> None:
    """What enters the block, against a graph of the whole model; prefix tokens take no part."""
    model = vit(kind)
    images, config = picture(model), vit(kind).config
    name = "block00/output" if layer == -1 else "embedded"
    logits, store = tapped(model, images, name)
    slope = torch.autograd.grad(logits[0, 1], store[name])[0][0, config.num_prefix :]
    tokens = store[name][0, config.num_prefix :].detach()
    expected = (tokens * slope.mean(dim=0)).sum(dim=1).clamp(min=0).view(config.grid).numpy()
    found = explain(model, images, Request("gradcam", layer=layer, target=1))
    assert np.abs(found.grid - expected).max() <= 1e-10 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("kind", ["hybrid", "seq", "residual"])
def test_feature_map_before_the_tokens(kind: str) -> None:
    model = vit(kind)
    assert feature_maps(model) == ["feature_map"]
    logits, store = tapped(model, picture(model), "feature_map")
    slope = torch.autograd.grad(logits[0, 4], store["feature_map"])[0][0].mean(dim=(1, 2))
    values = store["feature_map"][0].detach()
    expected = torch.einsum("c,chw->hw", slope, values).clamp(min=0).numpy()
    found = explain(model, picture(model), Request("gradcam", layer="feature_map", target=4))
    assert np.abs(found.grid - expected).max() <= 1e-10 * max(1, np.abs(expected).max())

"""Integrated gradients (completeness, closed form), occlusion by hand, chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.explain.small_models import KINDS, bit, picture, resnet, vit
from vitrail.explain.methods.maps import Request, cell_edges
from vitrail.explain.methods.pixels import baseline_of, cells_of
from vitrail.explain.methods.registry import explain
from vitrail.explain.methods.walk import blocks_of
from vitrail.models.bit.model import BiTResNet
from vitrail.models.create import Model, ResidualNet

SMOOTH = [kind for kind in KINDS if kind not in ("hybrid", "residual")]


@pytest.mark.parametrize("kind", SMOOTH)
def test_completeness(kind: str) -> None:
    """Values sum to logit(image) - logit(baseline): smooth models converge fast in the steps.

    The tiny models have weights of 0.3, which makes them rough; images near the mean do not.
    """
    model = vit(kind)
    images = 0.3 * picture(model)
    with torch.no_grad():
        change = (model(images) - model(torch.zeros_like(images)))[0, 2].item()
    found = explain(model, images, Request("integrated-gradients", target=2, steps=64))
    error = found.grid.sum() - change
    assert abs(change) > 1e-3
    assert abs(error) <= 1e-3 * abs(change)
    assert found.facts["logit_change"] == pytest.approx(change, abs=1e-12)
    assert found.facts["completeness_error"] == pytest.approx(error, abs=1e-12)


def test_completeness_of_a_hybrid_from_a_blurred_image() -> None:
    """ReLU has corners, so quadrature converges slowly: within 3 % at 512 steps."""
    model = vit("hybrid", image_size=(8, 9))
    images = picture(model)
    baseline, name = baseline_of(model, images)
    assert "blurred" in name
    change = (model(images) - model(baseline))[0, 1].item()
    found = explain(model, images, Request("integrated-gradients", target=1, steps=512))
    assert abs(found.grid.sum() - change) <= 0.03 * abs(change)


def test_the_baseline_follows_the_norm_behind_the_first_layer() -> None:
    """BatchNorm sees the brightness of a constant image, GroupNorm does not."""
    models: list[Model] = [resnet(), vit("residual"), vit("cls")]
    for model in models:
        assert not baseline_of(model, picture(model))[0].any()
    models = [resnet(norm="group"), resnet(norm="group_std"), bit(), vit("hybrid")]
    for model in (*models, vit("residual", stem_norm="group")):
        assert "blurred" in baseline_of(model, picture(model))[1]


@pytest.mark.parametrize("kind", ["resnet", "residual"])
def test_completeness_behind_batch_norm(kind: str) -> None:
    """From the mean colour, within 3 % at 512 steps, as of a hybrid."""
    model: Model = resnet() if kind == "resnet" else vit(kind)
    images = picture(model)
    change = (model(images) - model(torch.zeros_like(images)))[0, 1].item()
    found = explain(model, images, Request("integrated-gradients", target=1, steps=512))
    assert abs(change) > 1e-3
    assert abs(found.grid.sum() - change) <= 0.03 * abs(change)


def test_a_linear_model_in_closed_form() -> None:
    """Without blocks' effect and norm the logit is linear: values are weight times pixel."""
    model = vit("tanh", representation_size=None, norm_after_pool=False)
    with torch.no_grad():
        for block in blocks_of(model):
            for name in ("attn.proj", "mlp.fc2"):
                block.get_parameter(f"{name}.weight").zero_()
                block.get_parameter(f"{name}.bias").zero_()
    model.norm = torch.nn.Identity()
    images = picture(model).requires_grad_()
    weight = torch.autograd.grad(model(images)[0, 1], images)[0]
    expected = (weight * images).sum(dim=1)[0].detach().numpy()
    for steps in (1, 5):
        found = explain(model, images, Request("integrated-gradients", target=1, steps=steps))
        assert np.abs(found.grid - expected).max() <= 1e-12
        assert abs(found.facts["completeness_error"]) <= 1e-12


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_occlusion_by_a_loop(scores: str) -> None:
    model = vit("cls", torch.float64)
    images = picture(model)
    found = explain(model, images, Request("occlusion", target=3, scores=scores))  # type: ignore[arg-type]
    h, w = model.config.grid

    def probability(values: torch.Tensor) -> float:
        logits = model(values)[0].detach().numpy()
        if scores == "sigmoid":
            return float(1 / (1 + np.exp(-logits[3])))
        return float(np.exp(logits[3]) / np.exp(logits).sum())

    before = probability(images)
    for row in range(h):
        for column in range(w):
            covered = images.clone()
            covered[:, :, row * 5 : (row + 1) * 5, column * 7 : (column + 1) * 7] = 0
            expected = np.log(before) - np.log(probability(covered))
            assert abs(found.grid[row, column] - expected) <= 1e-12


@pytest.mark.parametrize("kind", [bit, resnet])
def test_a_pixel_that_is_not_looked_at_counts_nothing(kind: Callable[[], ResidualNet]) -> None:
    """A channel-and-patch whose kernel is zero: its integrated gradient and occlusion are 0."""
    model = kind()
    images = picture(model)
    found = explain(model, images, Request("occlusion"))
    assert found.grid.shape == cells_of(model) == (19, 13)
    assert np.abs(found.grid).max() > 0
    model.get_parameter("stem.conv.weight").data.zero_()
    for method in ("occlusion", "integrated-gradients"):
        assert np.abs(explain(model, images, Request(method)).grid).max() <= 1e-12


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 50))
def test_cells_cover_every_pixel_once(size: int, count: int) -> None:
    edges = cell_edges(size, count)
    assert (edges[0], edges[-1]) == (0, size)
    assert len(edges) == count + 1
    assert edges == sorted(edges)
    if count <= size:
        assert len(set(edges)) == count + 1


def test_chance_is_a_function_of_the_seed() -> None:
    model = vit("cls")
    images = picture(model)
    a, b = (explain(model, images, Request("random", seed=seed)).grid for seed in (0, 1))
    assert np.array_equal(a, explain(model, images, Request("random")).grid)
    assert not np.array_equal(a, b)
    assert 0 <= a.min() <= a.max() < 1


def test_squares_of_a_large_image_without_patches() -> None:
    """A cell is about 1/14 of the longer side."""
    model = BiTResNet(bit().config.model_copy(update={"image_size": (224, 160)}))
    assert cells_of(model) == (14, 10)

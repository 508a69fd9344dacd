"""Relevance: by hand, against complex-step derivatives in NumPy, and gradients block by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.explain.small_models import KINDS, picture, vit
from tests.models.check_model import random_images
from tests.reference import explain_numpy
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import explain
from vitrail.explain.methods.relevance import weighted_attention
from vitrail.explain.methods.walk import (
    attention_gradient,
    evaluating,
    forward,
    input_gradient,
    output_gradient,
)
from vitrail.models.layers.tap import TapDict

EXACT = 1e-9


def test_two_layers_by_hand() -> None:
    """One head, two tokens, gradients given. Layer 1: A = (1/2, 1/2; 1/4, 3/4), gradient (2, -2; 4,
    4), so A-bar = (1, 0; 1, 3) and R = (2, 0; 1, 4). Layer 2: A = (1, 0; 1/2, 1/2), gradient (1, 9;
    2, -6): A-bar = (1, 0; 1, 0) and R + A-bar R = (4, 0; 3, 4).
    """
    layers = [
        (torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([[2.0, -2], [4, 4]])),
        (torch.tensor([[1, 0], [0.5, 0.5]]), torch.tensor([[1.0, 9], [2, -6]])),
    ]
    total = torch.eye(2)
    for weights, slope in layers[::-1]:  # the package's order
        total = total + total @ weighted_attention(weights[None, None], slope[None, None])
    assert torch.equal(total, torch.tensor([[4.0, 0], [3, 4]]))
    arrays = [[one[None].numpy() for one in pair] for pair in layers]
    expected = explain_numpy.relevance([a for a, _ in arrays], [b for _, b in arrays])
    assert np.array_equal(expected, total.numpy())


def test_heads_are_averaged_after_the_cut() -> None:
    """max(0, 3) and max(0, -1) have the mean 3/2, not 1."""
    ones = torch.ones(1, 2, 1, 1)
    slope = torch.tensor([3.0, -1]).view(1, 2, 1, 1)
    assert weighted_attention(ones, slope).item() == 1.5


@pytest.mark.parametrize("kind", ["cls", "registers", "gap", "cls_gap", "map"])
def test_equals_the_reference(kind: str) -> None:
    model = vit(kind, gelu="gelu_tanh", image_size=(10, 14), width=6, num_heads=2)
    config, images = model.config, picture(model)
    state = {name: value.detach().numpy() for name, value in model.named_parameters()}
    with torch.no_grad():
        x = model.embed(images)[0].numpy()
    reference = explain_numpy.TinyViT(state, 2, 2, config.pool, config.ln_eps)
    tokens, attentions = reference.blocks(x.astype(complex), {})
    for target in (0, 3):
        slopes = reference.attention_slopes(x, config.num_prefix, target)
        expected = explain_numpy.relevance(attentions, slopes)
        row = reference.row(x, config.num_prefix, target) @ expected
        found = explain(model, images, Request("relevance", target=target))
        grid = row[config.num_prefix :].reshape(config.grid)
        assert np.abs(grid).max() > 1e-6
        assert np.abs(found.grid - grid).max() <= EXACT
        assert found.matrix is not None
        inner = expected[config.num_prefix :, config.num_prefix :]
        assert np.abs(found.matrix - inner).max() <= EXACT
    logits = reference.logits(tokens, config.num_prefix).real
    assert np.abs(found.logits - logits).max() <= EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_block_by_block_are_those_of_the_whole_graph(kind: str) -> None:
    """With a graph of the whole model, which the package never builds."""
    model = vit(kind)
    images = picture(model)
    names = [f"block{i:02d}/attention" for i in range(2)]
    store: TapDict = dict.fromkeys([*names, "embedded"])
    logits = model(images, tap=store)
    wanted = [store[name] for name in [*names, "embedded"]]
    *expected, at_start = torch.autograd.grad(logits[0, 2], wanted)  # type: ignore[arg-type]
    with evaluating(model):
        trail = forward(model, images)
        gradient = output_gradient(model, trail, 2)
        for index in (1, 0):
            x = trail.inputs[index]
            attention, slope = attention_gradient(model, index, x, gradient)
            assert (slope - expected[index]).abs().max() <= 1e-12
            assert (attention - wanted[index]).abs().max() <= 1e-12  # type: ignore[operator]
            gradient = input_gradient(model, index, x, gradient)
    assert (gradient - at_start).abs().max() <= 1e-11 * max(1, at_start.abs().max().item())
    assert (trail.logits - logits).abs().max() <= 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_depends_on_the_class(kind: str) -> None:
    """And is what it is for the first choice where no class is named."""
    model = vit(kind)
    images = random_images(model.config, 1)
    maps = [explain(model, images, Request("relevance", target=target)) for target in range(5)]
    assert max(np.abs(one.grid - maps[0].grid).max() for one in maps[1:]) > 1e-6
    assert all(one.grid.min() >= 0 for one in maps)
    first = explain(model, images, Request("relevance"))
    assert first.target == int(maps[0].logits.argmax())
    assert np.array_equal(first.grid, maps[first.target].grid)

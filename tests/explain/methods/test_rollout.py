"""Rollout and raw attention: by hand, against NumPy, rows that sum to 1, and which row is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.explain.small_models import KINDS, picture, vit
from tests.models.check_model import tapped
from tests.reference import explain_numpy
from vitrail.explain.methods.attention import rollout_step
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.reading import fixed_row, reading_row
from vitrail.explain.methods.registry import explain
from vitrail.explain.methods.walk import evaluating

EXACT = 1e-9


def test_two_layers_by_hand() -> None:
    """Two tokens. Layer 1: heads (1, 0; 1/2, 1/2) and (0, 1; 1/2, 1/2); with I, rows scaled:
    (3/4, 1/4; 1/4, 3/4). Layer 2: (1/3, 2/3; 1, 0) becomes (2/3, 1/3; 1/2, 1/2). The product:
    (7/12, 5/12; 1/2, 1/2).
    """
    first = torch.tensor([[[1, 0], [0.5, 0.5]], [[0, 1], [0.5, 0.5]]], dtype=torch.float64)
    second = torch.tensor([[[1 / 3, 2 / 3], [1, 0]]], dtype=torch.float64)
    found = rollout_step(rollout_step(torch.eye(2, dtype=torch.float64), first), second)
    expected = torch.tensor([[7 / 12, 5 / 12], [1 / 2, 1 / 2]], dtype=torch.float64)
    assert (found - expected).abs().max() <= 1e-15


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(kind: str) -> None:
    """From tapped attention to the grid, for every kind of model; prefix rows and columns gone."""
    model = vit(kind)
    images = picture(model)
    logits, store = tapped(model, images)
    layers = [store[f"block{i:02d}/attention"][0].detach().numpy() for i in range(2)]
    expected = explain_numpy.rollout(layers)
    config, prefix = model.config, model.config.num_prefix
    weights = {
        "cls": np.eye(config.num_tokens)[0],
        "gap": np.r_[np.zeros(prefix), np.full(config.num_patches, 1 / config.num_patches)],
    }
    weights["cls_gap"] = (weights["cls"] + weights["gap"]) / 2
    if config.distillation_token:
        weights["cls"] = np.r_[0.5, 0.5, np.zeros(config.num_patches)]
    for name in ("map", "seq"):
        if config.pool == name:
            weights[name] = store["pool/attention"][0, :, 0].mean(dim=0).detach().numpy()
    found = explain(model, images, Request("rollout"))
    row = weights[config.pool] @ expected
    assert np.abs(found.grid - row[prefix:].reshape(config.grid)).max() <= EXACT
    assert found.matrix is not None
    assert np.abs(found.matrix - expected[prefix:, prefix:]).max() <= EXACT
    assert np.abs(found.logits - logits[0].detach().numpy()).max() <= 1e-12
    first = weights[config.pool] @ explain_numpy.rollout(layers[:1])
    assert np.abs(found.layers[0] - first[prefix:].reshape(config.grid)).max() <= EXACT
    assert list(found.layers) == [0, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(2, 9), st.integers(1, 4), st.integers(0, 2**31))
def test_rows_of_a_rollout_sum_to_one(depth: int, N: int, heads: int, seed: int) -> None:
    """Whatever the attention, also where rows do not sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    rolled = torch.eye(N, dtype=torch.float64)
    for _ in range(depth):
        attention = torch.rand(heads, N, N, generator=generator, dtype=torch.float64)
        rolled = rollout_step(rolled, attention)
    assert (rolled.sum(dim=1) - 1).abs().max() <= 1e-12
    assert rolled.min() >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_raw_attention_is_the_tapped_one(kind: str) -> None:
    """One head and the mean, of every layer; token (row, column) is a row of its own."""
    model = vit(kind)
    images, config = picture(model), vit(kind).config
    _, store = tapped(model, images)
    with evaluating(model):
        row = reading_row(model, images)[0]
    prefix, (h, w) = config.num_prefix, config.grid
    for layer in (0, -1):
        attention = store[f"block{layer % 2:02d}/attention"][0].detach()  # (heads, N, N)
        assert (attention.sum(dim=-1) - 1).abs().max() <= 1e-12
        for head in (None, 2):
            weights = attention.mean(dim=0) if head is None else attention[head]
            found = explain(model, images, Request("attention", layer=layer, head=head))
            expected = (row @ weights)[prefix:].view(h, w).numpy()
            assert np.abs(found.grid - expected).max() <= EXACT
            place = (h - 1, w - 2)
            request = Request("attention", layer=layer, head=head, token=place)
            own = weights[prefix + place[0] * w + place[1], prefix:].view(h, w).numpy()
            assert np.abs(explain(model, images, request).grid - own).max() <= EXACT


@pytest.mark.parametrize("kind", ["map", "seq"])
def test_pooling_heads_are_a_layer_of_their_own(kind: str) -> None:
    """Of models that pool by attention the default is that attention; in `seq` it is one head."""
    model = vit(kind)
    images = picture(model)
    _, store = tapped(model, images)
    weights = store["pool/attention"][0, :, 0].detach()  # (heads, N)
    found = explain(model, images, Request("attention"))
    assert found.facts["layer"] == "pool"
    expected = weights.mean(dim=0)[model.config.num_prefix :].view(model.config.grid)
    assert np.abs(found.grid - expected.numpy()).max() <= EXACT
    if kind == "map":
        one = explain(model, images, Request("attention", layer="pool", head=1)).grid
        own = weights[1, model.config.num_prefix :].view(model.config.grid)
        assert np.abs(one - own.numpy()).max() <= EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_the_row_that_is_read_sums_to_one(kind: str) -> None:
    model = vit(kind)
    with evaluating(model):
        row = reading_row(model, picture(model))[0]
    assert row.shape == (model.config.num_tokens,)
    assert abs(float(row.sum()) - 1) <= 1e-12
    fixed = fixed_row(model.config)
    if fixed is not None and model.config.num_registers:
        registers = slice(
            model.config.num_prefix - model.config.num_registers, model.config.num_prefix
        )
        assert fixed[registers].abs().max() == 0

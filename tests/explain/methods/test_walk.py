"""A ViT block by block gives what the model gives, and leaves it as it was."""

from __future__ import annotations

import pytest
import torch

from tests.explain.small_models import KINDS, picture, vit
from tests.models.check_model import random_images, random_model
from tests.models.tiny_configs import Choice, build_config, covering_choices
from tests.rounding import EXACT, float32_error, row_sum_error
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import METHODS, explain, methods_of
from vitrail.explain.methods.walk import (
    attention_gradient,
    evaluating,
    input_gradient,
    logits_of,
    run_blocks,
)
from vitrail.models.layers.tap import Tap, TapDict


@pytest.mark.parametrize("choice", covering_choices())
def test_logits_of_every_architecture(choice: Choice) -> None:
    """Fused, and with every layer's attention computed: within 1e-12 in float64."""
    model = random_model(build_config(choice))
    images = random_images(model.config, 3)
    seen = list[int]()
    with evaluating(model):
        logits = model(images)
        plain = logits_of(model, run_blocks(model, model.embed(images)))
        tapped = logits_of(
            model,
            run_blocks(
                model,
                model.embed(images),
                range(model.config.depth),
                lambda index, attention: seen.append(index),
            ),
        )
    assert (plain - logits).abs().max() <= EXACT
    assert (tapped - logits).abs().max() <= EXACT
    assert seen == list(range(model.config.depth))


@pytest.mark.parametrize("kind", KINDS)
def test_attention_does_not_change_the_logits(kind: str) -> None:
    """float32: the tapped path against the fused kernel within the roundings of both, and rows of
    every layer sum to 1.
    """
    model = vit(kind, torch.float32)
    images = picture(model)
    with torch.no_grad():
        logits = model(images)
    found = explain(model, images, Request("rollout"))
    difference = torch.from_numpy(found.logits) - logits[0]
    assert difference.abs().max() <= 2 * float32_error(model, logits)
    sums: list[torch.Tensor] = []
    with evaluating(model):
        run_blocks(model, model.embed(images), [0, 1], lambda _, a: sums.append(a.sum(-1)))
    largest = row_sum_error(model.config.num_tokens)
    assert all((one - 1).abs().max() <= largest for one in sums)


def test_only_the_chosen_layers_are_computed() -> None:
    model = vit("cls", depth=3)
    seen = list[int]()
    with evaluating(model):
        run_blocks(model, model.embed(picture(model)), [1], lambda index, _: seen.append(index))
    assert seen == [1]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "merging"])
def test_the_model_is_left_as_it_was(method: str) -> None:
    """Mode, gradients and random numbers; also inside an inference mode and while it trains."""
    model = vit("cls", torch.float32, dropout=0.5)
    images = picture(model)
    expected = explain(model, images, Request(method)).grid
    model.train()
    before, state = {n: p.clone() for n, p in model.named_parameters()}, torch.get_rng_state()
    with torch.inference_mode():
        inside = explain(model, images.clone(), Request(method)).grid
    assert (inside == expected).all()
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.named_parameters():
        assert value.grad is None
        assert torch.equal(value, before[name])
    assert all(module.training for module in model.modules())
    assert method in methods_of(model)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_have_the_bits_of_autograd(kind: str) -> None:
    """Those that autograd.grad gives for a gradient of the output (it would load sympy)."""
    model = vit(kind, torch.float32)
    x = model.embed(picture(model)).detach().requires_grad_()
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    expected = torch.autograd.grad(model.run_block(1, x), x, gradient)[0]
    assert torch.equal(input_gradient(model, 1, x, gradient), expected)
    store: TapDict = {"block01/attention": None}
    output = model.run_block(1, x, Tap(store, list(store)))
    attention = store["block01/attention"]
    assert attention is not None
    expected = torch.autograd.grad(output, attention, gradient)[0]
    assert torch.equal(attention_gradient(model, 1, x, gradient)[1], expected)

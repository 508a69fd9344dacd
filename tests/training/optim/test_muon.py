"""Muon against a float64 reference by singular values; which parameters it trains; fused layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitrail.config import OptimConfig
from vitrail.models.create import build, create_model
from vitrail.models.names import resolve_model
from vitrail.models.vit.model import ViT
from vitrail.training.optim.muon import Muon, orthogonal
from vitrail.training.optim.optimizer import (
    create_optimizer,
    optimizer_tensors,
    parameter_groups,
    restore_optimizer,
    set_lr,
)
from vitrail.training.tasks.masked_patches import MaskedPatches

Array = np.ndarray[Any, np.dtype[np.float64]]
SIZES: dict[str, Any] = {"width": 12, "depth": 2, "num_heads": 3, "mlp_dim": 10}
LR, DECAY, MOMENTUM, BETAS, EPS = 0.03, 0.2, 0.8, (0.8, 0.95), 1e-6
CONFIG = OptimConfig(
    name="muon", lr=LR, weight_decay=DECAY, momentum=MOMENTUM, betas=BETAS, eps=EPS
)


def nearest(matrix: Array) -> Array:
    """Every singular value s, as a share of their root of squares, becomes p(p(p(p(p(s)))))."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / (np.sqrt((values**2).sum()) + 1e-7)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    found: Array = left * values @ right
    return found


def muon_reference(w: Array, grads: list[Array], num_parts: int, lr: float = LR) -> Array:
    """The post's rule with Nesterov momentum, scaled as arXiv 2502.16982, equation 4."""
    m = np.zeros_like(w)
    for g in grads:
        m = MOMENTUM * m + (1 - MOMENTUM) * g
        ahead = (1 - MOMENTUM) * g + MOMENTUM * m
        steps = []
        for part in np.split(ahead.reshape(len(w), -1), num_parts):
            steps.append(0.2 * np.sqrt(max(part.shape)) * nearest(part))
        w = w - lr * (np.concatenate(steps).reshape(w.shape) + DECAY * w)
    return w


def adamw_reference(w: Array, grads: list[Array], decay: float) -> Array:
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        v = BETAS[1] * v + (1 - BETAS[1]) * g * g
        direction = m / (1 - BETAS[0] ** t) / (np.sqrt(v / (1 - BETAS[1] ** t)) + EPS)
        w = w - LR * (direction + decay * w)
    return w


def gradients_of(model: nn.Module, steps: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            name: torch.randn(value.shape, generator=generator, dtype=torch.float64)
            for name, value in model.named_parameters()
        }
        for _ in range(steps)
    ]


def run(optimizer: Muon, model: nn.Module, gradients: list[dict[str, Tensor]]) -> None:
    for by_name in gradients:
        for name, parameter in model.named_parameters():
            parameter.grad = by_name[name].to(parameter.dtype)
        optimizer.step()


def muon_of(model: nn.Module, config: OptimConfig = CONFIG, *, is_gated: bool = False) -> Muon:
    found = create_optimizer(parameter_groups(model, config), config, is_gated=is_gated)
    assert isinstance(found, Muon)
    return found


def vit(**fields: Any) -> ViT:
    config = resolve_model("vit_ti8", image_size=16, num_classes=5, overrides=SIZES | fields)
    model = create_model(config, seed=2)
    assert isinstance(model, ViT)
    return model.double()


PARTS = {
    "patch_embed.proj.weight": 1,
    "blocks.0.attn.qkv.weight": 3,
    "blocks.0.attn.proj.weight": 1,
    "blocks.0.mlp.fc1.weight": 2,
    "blocks.1.mlp.fc2.weight": 1,
    "attn_pool.q.weight": 1,
    "attn_pool.kv.weight": 2,
    "attn_pool.mlp.fc1.weight": 1,  # a plain MLP also beside SwiGLUs
}


def test_equals_the_float64_reference() -> None:
    """Every parameter of a ViT with packed SwiGLUs and attention pooling: kernels of hidden layers
    by Muon, a fused layer in parts, the rest by AdamW; only kernels decay."""
    model = vit(mlp="swiglu", pool="map")
    start = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    gradients = gradients_of(model, 4)
    optimizer = muon_of(model, is_gated=True)
    hidden = {n for g in optimizer.param_groups if g["is_hidden"] for n in g["names"]}
    assert PARTS.keys() <= hidden
    assert not any(name.startswith("head") or "norm" in name for name in hidden)
    assert all(name.endswith(".weight") for name in hidden)
    run(optimizer, model, gradients)
    for name, value in model.named_parameters():
        grads = [one[name].numpy() for one in gradients]
        if name in hidden:
            num_parts = PARTS.get(name.replace("blocks.1", "blocks.0"), 1)
            expected = muon_reference(start[name], grads, num_parts)
        else:
            decay = DECAY if name == "head.weight" else 0.0
            expected = adamw_reference(start[name], grads, decay)
        assert np.abs(value.detach().numpy() - expected).max() <= 1e-12, name
        assert np.abs(expected - start[name]).max() > 1e-3


def test_kernels_of_convolutions_are_matrices() -> None:
    """(O, I k k), whatever their layout in memory."""
    model = create_model(resolve_model("resnet_ti", num_classes=5), seed=1).double()
    for value in model.parameters():
        if value.ndim == 4:
            value.data = value.data.contiguous(memory_format=torch.channels_last)
    start = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    gradients = gradients_of(model, 2)
    optimizer = muon_of(model)
    run(optimizer, model, gradients)
    hidden = {n for g in optimizer.param_groups if g["is_hidden"] for n in g["names"]}
    assert hidden == {name for name in start if name.endswith("conv.weight")}
    for name in ("stem.conv.weight", "stages.1.blocks.1.conv2.conv.weight"):
        grads = [one[name].numpy() for one in gradients]
        expected = muon_reference(start[name], grads, 1)
        assert np.abs(model.get_parameter(name).detach().numpy() - expected).max() <= 1e-12
    grads = [one["head.fc.weight"].numpy() for one in gradients]
    expected = adamw_reference(start["head.fc.weight"], grads, DECAY)
    head = model.get_parameter("head.fc.weight").detach().numpy()
    assert np.abs(head - expected).max() <= 1e-12


@pytest.mark.parametrize("shape", [(7, 19), (19, 7), (11, 11), (1, 5)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """From a tenth of the largest on, with the same singular vectors; so that a step has 0.2 of the
    rate as its root of mean squares, the size of AdamW's."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    left, _, right = torch.linalg.svd(drawn, full_matrices=False)
    matrix = left * torch.linspace(0.1, 1, min(shape), dtype=torch.float64) @ right
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert 0.65 < values.min()
    assert values.max() < 1.25
    assert np.abs(found.numpy() - nearest(matrix.numpy())).max() <= 1e-12
    step = 0.2 * max(shape) ** 0.5 * found
    assert 0.13 < step.square().mean().sqrt() < 0.25


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert not orthogonal(torch.zeros(3, 5)).any()


def test_parts_of_a_fused_layer_do_not_see_each_other() -> None:
    """A gradient that is large for v alone moves q and k as it would without."""
    steps = []
    for factor in (1.0, 1000.0):
        model = vit()
        (gradients,) = gradients_of(model, 1)
        gradients["blocks.0.attn.qkv.weight"][24:] *= factor
        before = model.get_parameter("blocks.0.attn.qkv.weight").detach().clone()
        run(muon_of(model), model, [gradients])
        steps.append(model.get_parameter("blocks.0.attn.qkv.weight").detach() - before)
    assert torch.equal(steps[0][:24], steps[1][:24])
    assert (steps[0][24:] - steps[1][24:]).abs().max() <= 1e-6  # only TINY sees the factor


def test_the_layer_that_answers_is_trained_by_adamw() -> None:
    """Of classifiers, with a distillation token, and of masked patches."""
    for model, answers in (
        (
            build(resolve_model("vit_ti8", num_classes=3, overrides={"distillation_token": True})),
            {"head.weight", "head_dist.weight"},
        ),
        (build(resolve_model("bit_r26x1", num_classes=3)), {"head.fc.weight"}),
        (
            MaskedPatches(create_model("vit_ti8", num_classes=0, image_size=16, **SIZES), 0),
            {"predict.weight"},
        ),
    ):
        groups = parameter_groups(model, CONFIG)
        others = {n for g in groups if not g["is_hidden"] and g["weight_decay"] for n in g["names"]}
        assert others == answers


def test_layer_decay_scales_rates_by_depth() -> None:
    """Also of Muon's steps; with half the rate a first step is half as long."""
    config = CONFIG.model_copy(update={"layer_decay": 0.5, "weight_decay": 0.0})
    model = vit()
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    gradients = gradients_of(model, 1)
    gradients[0]["blocks.1.attn.proj.weight"] = gradients[0]["blocks.0.attn.proj.weight"]
    optimizer = muon_of(model, config)
    set_lr(optimizer, LR)
    run(optimizer, model, gradients)
    first, second = (
        model.get_parameter(name).detach() - start[name]
        for name in ("blocks.0.attn.proj.weight", "blocks.1.attn.proj.weight")
    )
    assert (2 * first - second).abs().max() <= 1e-15
    assert second.abs().max() > 1e-4


def test_restored_state_continues_bit_for_bit() -> None:
    config = CONFIG.model_copy(update={"layer_decay": 0.7})
    straight, resumed = vit(mlp="swiglu").float(), vit(mlp="swiglu").float()
    gradients = gradients_of(straight, 5)
    optimizer = muon_of(straight, config, is_gated=True)
    run(optimizer, straight, gradients[:2])
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer, straight).items()}
    assert {key.split("/")[0] for key in saved} == {
        "momentum_buffer",
        "exp_avg",
        "exp_avg_sq",
        "step",
    }
    resumed.load_state_dict(straight.state_dict())
    second = muon_of(resumed, config, is_gated=True)
    restore_optimizer(second, resumed, saved)
    run(optimizer, straight, gradients[2:])
    run(second, resumed, gradients[2:])
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert not torch.equal(straight.head.weight, vit(mlp="swiglu").float().head.weight)

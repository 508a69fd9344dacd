"""Update rules against float64 references in NumPy, which parameters decay, rates by depth,
clipping, saved state.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitrail.config import OptimConfig
from vitrail.errors import ModelError, UsageError
from vitrail.models.create import build
from vitrail.models.names import resolve_model
from vitrail.training.optim.optimizer import (
    Optimizer,
    blocks_of,
    clip_gradients,
    create_optimizer,
    layer_of,
    optimizer_tensors,
    parameter_groups,
    restore_optimizer,
    set_lr,
)
from vitrail.training.optim.update_rules import FusedAdamW

Array = np.ndarray[Any, np.dtype[np.float64]]
Rule = Callable[[Array, list[Array], float, float, OptimConfig], Array]


class Tiny(nn.Module):
    """Names and kinds of a ViT's parameters, at prime sizes."""

    def __init__(self, depth: int = 2, width: int = 5) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.reg_token = nn.Parameter(torch.zeros(1, 3, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 7, width))
        self.pos_embed_row = nn.Parameter(torch.zeros(7, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 2)})
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(self._block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.attn_pool = nn.Linear(width, width)
        self.attn_pool.register_parameter("latent", nn.Parameter(torch.zeros(1, 1, width)))
        self.head = nn.Linear(width, 3)
        self.head_dist = nn.Linear(width, 3)

    @staticmethod
    def _block(width: int) -> nn.Module:
        block = nn.Module()
        block.norm1 = nn.LayerNorm(width)
        block.attn = nn.Linear(width, 3 * width)
        block.attn.register_parameter("relative_position", nn.Parameter(torch.zeros(2, 13)))
        block.table = nn.Embedding(13, 2)
        block.ls1 = nn.Module()
        block.ls1.gamma = nn.Parameter(torch.ones(width))
        return block


KERNELS = {
    "patch_embed.proj.weight",
    "blocks.0.attn.weight",
    "blocks.1.attn.weight",
    "attn_pool.weight",
    "head.weight",
    "head_dist.weight",
}


def adamw_reference(w: Array, grads: list[Array], lr: float, decay: float, c: OptimConfig) -> Array:
    """AdamW, arXiv 1711.05101, algorithm 2."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = c.betas[0] * m + (1 - c.betas[0]) * g
        v = c.betas[1] * v + (1 - c.betas[1]) * g * g
        direction = m / (1 - c.betas[0] ** t) / (np.sqrt(v / (1 - c.betas[1] ** t)) + c.eps)
        w = w - lr * (direction + decay * w)
    return w


def momentum_reference(
    w: Array, grads: list[Array], lr: float, decay: float, c: OptimConfig
) -> Array:
    """Spec 3.9: m = .9 m + g; no dampening, no Nesterov."""
    m = np.zeros_like(w)
    for g in grads:
        m = c.momentum * m + g
        w = w - lr * (m + decay * w)
    return w


def lamb_reference(w: Array, grads: list[Array], lr: float, decay: float, c: OptimConfig) -> Array:
    """LAMB, arXiv 1904.00962, algorithm 2; no trust ratio without decay."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = c.betas[0] * m + (1 - c.betas[0]) * g
        v = c.betas[1] * v + (1 - c.betas[1]) * g * g
        direction = (
            m / (1 - c.betas[0] ** t) / (np.sqrt(v / (1 - c.betas[1] ** t)) + c.eps) + decay * w
        )
        ratio = 1.0
        if decay and np.linalg.norm(w) > 0 and np.linalg.norm(direction) > 0:
            ratio = float(np.linalg.norm(w) / np.linalg.norm(direction))
        w = w - lr * ratio * direction
    return w


RULES: dict[str, Rule] = {
    "adamw": adamw_reference,
    "sgd": momentum_reference,
    "lamb": lamb_reference,
}


def run(optimizer: Optimizer, model: nn.Module, gradients: list[dict[str, Tensor]]) -> None:
    for by_name in gradients:
        for name, parameter in model.named_parameters():
            parameter.grad = by_name[name].clone().to(parameter.dtype)
        optimizer.step()


def random_gradients(model: nn.Module, steps: int, seed: int = 1) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            name: torch.randn(value.shape, generator=generator, dtype=torch.float64)
            for name, value in model.named_parameters()
        }
        for _ in range(steps)
    ]


def small_model() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_equals_the_float64_reference(name: Any) -> None:
    model = small_model().double()
    config = OptimConfig(name=name, lr=0.03, weight_decay=0.2, betas=(0.8, 0.95), eps=1e-6)
    start = {key: value.detach().numpy().copy() for key, value in model.named_parameters()}
    gradients = random_gradients(model, 6)
    run(create_optimizer(parameter_groups(model, config), config), model, gradients)
    for key, value in model.named_parameters():
        decay = 0.2 if key in ("0.weight", "2.weight") else 0.0
        expected = RULES[name](start[key], [g[key].numpy() for g in gradients], 0.03, decay, config)
        assert np.abs(value.detach().numpy() - expected).max() <= 1e-12, key
        assert np.abs(expected - start[key]).max() > 1e-3


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_float32_stays_near_the_float64_reference(name: Any) -> None:
    model = small_model()
    config = OptimConfig(name=name, lr=0.01, weight_decay=0.1)
    start = {key: value.detach().double().numpy().copy() for key, value in model.named_parameters()}
    gradients = random_gradients(model, 4)
    run(create_optimizer(parameter_groups(model, config), config), model, gradients)
    for key, value in model.named_parameters():
        decay = 0.1 if key in ("0.weight", "2.weight") else 0.0
        expected = RULES[name](
            start[key], [g[key].float().double().numpy() for g in gradients], 0.01, decay, config
        )
        assert np.abs(value.detach().numpy() - expected).max() <= 2e-6, key


def test_lamb_keeps_a_zero_tensor_in_reach() -> None:
    layer = nn.Linear(2, 3)
    nn.init.zeros_(layer.weight)
    config = OptimConfig(name="lamb", lr=0.1)
    run(
        create_optimizer(parameter_groups(layer, config), config), layer, random_gradients(layer, 1)
    )
    assert torch.allclose(
        layer.weight.abs(), torch.tensor(0.1), atol=1e-6
    )  # ratio 1, Adam's first step


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_a_parameter_without_gradient_stays(name: Any) -> None:
    model = nn.Linear(3, 2)
    config = OptimConfig(name=name, lr=0.1)
    optimizer = create_optimizer(parameter_groups(model, config), config)
    before = model.weight.detach().clone()
    optimizer.step()
    model.bias.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(model.weight, before)
    assert set(optimizer.state) == {model.bias}


def test_only_kernels_decay() -> None:
    model = Tiny()
    groups = parameter_groups(model, OptimConfig(weight_decay=0.3))
    decayed = {name for group in groups if group["weight_decay"] for name in group["names"]}
    assert decayed == KERNELS
    assert {group["weight_decay"] for group in groups} == {0.0, 0.3}
    assert sorted(name for group in groups for name in group["names"]) == sorted(
        name for name, _ in model.named_parameters()
    )


def test_frozen_parameters_are_in_no_group_and_outside_the_norm() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    model[0].requires_grad_(False)
    groups = parameter_groups(model, OptimConfig())
    assert sorted(name for group in groups for name in group["names"]) == ["1.bias", "1.weight"]
    model(torch.ones(1, 3)).sum().backward()
    expected = torch.cat(
        [p.grad.flatten() for p in model[1].parameters() if p.grad is not None]
    ).norm()
    assert clip_gradients(model.parameters(), 0.0).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("patch_embed.proj.weight", 0),
        ("pos_embed", 0),
        ("pos_embed_row", 0),
        ("cls_token", 0),
        ("reg_token", 0),
        ("dist_token", 0),
        ("norm_pre.weight", 0),
        ("blocks.0.norm1.bias", 1),
        ("blocks.11.attn.weight", 12),
        ("norm.weight", 13),
        ("fc_norm.weight", 13),
        ("head.bias", 13),
        ("head_dist.weight", 13),
        ("attn_pool.latent", 13),
    ],
)
def test_layers_by_depth(name: str, layer: int) -> None:
    assert layer_of(name, [f"blocks.{i}" for i in range(12)]) == layer


def test_layers_of_residual_networks() -> None:
    """Units count through the stages; a hybrid's stem is one layer."""
    bit = build(resolve_model("bit_r26x1", num_classes=2))
    blocks = blocks_of(name for name, _ in bit.named_parameters())
    assert len(blocks) == 8
    expected = {
        "stem.conv.weight": 0,
        "stages.0.blocks.0.conv1.weight": 1,
        "stages.0.blocks.1.norm3.bias": 2,
        "stages.3.blocks.1.conv2.weight": 8,
        "norm.weight": 9,
        "head.fc.weight": 9,
    }
    assert {name: layer_of(name, blocks) for name in expected} == expected
    groups = parameter_groups(bit, OptimConfig(layer_decay=0.5))
    assert {group["lr_scale"] for group in groups} == {0.5**n for n in range(10)}
    hybrid = build(resolve_model("r26_vit_s32", num_classes=2))
    blocks = blocks_of(name for name, _ in hybrid.named_parameters())
    assert blocks == [f"blocks.{i}" for i in range(12)]
    assert layer_of("patch_embed.backbone.stages.3.blocks.1.conv2.weight", blocks) == 0


def test_layer_decay_scales_rates_by_depth() -> None:
    model = Tiny(depth=2)
    config = OptimConfig(layer_decay=0.5, lr=0.08)
    optimizer = create_optimizer(parameter_groups(model, config), config)
    set_lr(optimizer, 0.08)
    rate = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rate["head.weight"] == rate["norm.bias"] == 0.08
    assert rate["blocks.1.attn.weight"] == 0.04
    assert rate["blocks.0.norm1.weight"] == 0.02
    assert rate["patch_embed.proj.bias"] == rate["pos_embed"] == 0.01
    decay = {
        name: group["weight_decay"] for group in optimizer.param_groups for name in group["names"]
    }
    assert {name for name, value in decay.items() if value} == KERNELS


def test_position_tables_of_every_layer() -> None:
    """They belong to the block that they come before, and do not decay."""
    fields = {"depth": 2, "width": 24, "num_heads": 3, "mlp_dim": 11, "posemb_at": "every"}
    model = build(resolve_model("vit_ti8", image_size=16, num_classes=2, overrides=fields))
    groups = parameter_groups(model, OptimConfig(layer_decay=0.5))
    found = {name: group for group in groups for name in group["names"]}
    assert found["pos_embed"]["lr_scale"] == 0.5**3
    assert found["blocks.1.pos_embed"]["lr_scale"] == found["blocks.1.norm1.bias"]["lr_scale"]
    assert found["blocks.1.pos_embed"]["weight_decay"] == 0


def test_layer_decay_needs_blocks() -> None:
    with pytest.raises(UsageError, match="no blocks") as error:
        parameter_groups(nn.Linear(2, 3), OptimConfig(layer_decay=0.7))
    assert error.value.code == "VIT-244"


@pytest.mark.parametrize("max_norm", [0.5, 1e6, 0.0])
def test_clipping_scales_to_the_common_norm(max_norm: float) -> None:
    model = small_model()
    gradients = random_gradients(model, 1)[0]
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].float()
    norm = float(np.sqrt(sum((g.numpy() ** 2).sum() for g in gradients.values())))
    assert clip_gradients(model.parameters(), max_norm).item() == pytest.approx(norm, rel=1e-6)
    scale = min(1.0, max_norm / norm) if max_norm else 1.0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad.double(), gradients[name] * scale, rtol=1e-6), name


def test_clipping_a_gradient_that_is_not_finite_reports_it() -> None:
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.tensor([1.0, float("nan"), 2.0])
    assert torch.isnan(clip_gradients([weight], 1.0))
    assert clip_gradients([nn.Parameter(torch.ones(3))], 1.0).item() == 0


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_restored_state_continues_bit_for_bit(name: Any) -> None:
    config = OptimConfig(name=name, lr=0.03, weight_decay=0.2, layer_decay=0.7)
    straight, gradients = Tiny(), random_gradients(Tiny(), 5)
    optimizer = create_optimizer(parameter_groups(straight, config), config)
    run(optimizer, straight, gradients[:2])
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer, straight).items()}
    resumed = Tiny()
    resumed.load_state_dict(straight.state_dict())
    second = create_optimizer(parameter_groups(resumed, config), config)
    restore_optimizer(second, resumed, saved)
    assert optimizer_tensors(second, resumed).keys() == saved.keys()
    run(optimizer, straight, gradients[2:])
    run(second, resumed, gradients[2:])
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    for key, value in optimizer_tensors(optimizer, straight).items():
        assert torch.equal(value, optimizer_tensors(second, resumed)[key]), key


def test_state_of_another_model_is_refused() -> None:
    config = OptimConfig()
    model = nn.Linear(3, 2)
    optimizer = create_optimizer(parameter_groups(model, config), config)
    with pytest.raises(ModelError, match=r"exp_avg/weight \(2, 4\).*expected \(2, 3\)") as error:
        restore_optimizer(optimizer, model, {"exp_avg/weight": torch.zeros(2, 4)})
    assert error.value.code == "VIT-406"
    with pytest.raises(ModelError, match="no such parameter"):
        restore_optimizer(optimizer, model, {"step/other": torch.zeros(())})


def test_adamw_has_the_bits_of_torch_on_the_cpu() -> None:
    """Outside implementation: torch.optim.AdamW, fused, over steps with other rates, some
    gradients missing; the state too.
    """
    config = OptimConfig(lr=0.03, weight_decay=0.2, betas=(0.8, 0.95), layer_decay=0.7)
    ours, theirs = Tiny(), Tiny()
    theirs.load_state_dict(ours.state_dict())
    optimizer = create_optimizer(parameter_groups(ours, config), config)
    assert isinstance(optimizer, FusedAdamW)
    torchs = torch.optim.AdamW(
        parameter_groups(theirs, config), lr=0.03, betas=config.betas, eps=config.eps, fused=True
    )
    for step, gradients in enumerate(random_gradients(ours, 5)):
        for model, rule in ((ours, optimizer), (theirs, torchs)):
            rule.zero_grad()
            for number, (name, weight) in enumerate(model.named_parameters()):
                if (number + step) % 5:
                    weight.grad = gradients[name].float()
            set_lr(rule, 0.03 / (1 + step))
            rule.step()
    for key, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key]), key
    expected, found = optimizer_tensors(torchs, theirs), optimizer_tensors(optimizer, ours)
    assert expected.keys() == found.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key


def test_an_optimizer_loads_no_compiler() -> None:
    """torch._dynamo takes 1.6 s to load; a training that is not compiled does without."""
    program = (
        "import sys, torch\n"
        "from vitrail.config import OptimConfig\n"
        "from vitrail.training.optim.optimizer import create_optimizer, parameter_groups\n"
        "layer = torch.nn.Sequential(torch.nn.Linear(3, 2))\n"
        "for name in ('adamw', 'sgd', 'lamb', 'muon', 'schedule_free'):\n"
        "    config = OptimConfig(name=name)\n"
        "    rule = create_optimizer(parameter_groups(layer, config), config)\n"
        "    layer(torch.ones(1, 3)).sum().backward()\n"
        "    rule.step()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

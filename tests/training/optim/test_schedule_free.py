"""AdamW without a schedule: algorithm 1 in float64, what a run evaluates and ships, exact resume,
what it does not go with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.training.running import StopAt, records, weights
from vitrail.classifier import load
from vitrail.config import OptimConfig
from vitrail.errors import UsageError
from vitrail.training import loop
from vitrail.training.optim.optimizer import create_optimizer, parameter_groups, set_lr
from vitrail.training.optim.schedule_free import Averages, ScheduleFree
from vitrail.training.reporter import RunResult, SilentReporter

Array = np.ndarray[Any, np.dtype[np.float64]]
RATES = (0.01, 0.02, 0.03, 0.03, 0.03, 0.03)  # a warm-up of three steps
BETAS, EPS, DECAY = (0.8, 0.95), 1e-6, 0.2
CONFIG = OptimConfig(name="schedule_free", lr=0.03, weight_decay=DECAY, betas=BETAS, eps=EPS)
COMMON: dict[str, Any] = {
    "data.path": "builtin:digits",
    "steps": 13,
    "batch_size": 31,
    "precision": "float32",
    "eval_every_epochs": 0.13,
    "save_every_steps": 3,
    "threads": 1,
    "optim.name": "schedule_free",
    "schedule.name": "constant",
    "ema": 0.0,
}
MODELS: dict[str, dict[str, Any]] = {
    "vit": {"model.width": 16, "model.depth": 2, "model.num_heads": 2, "model.mlp_dim": 23},
    "resnet": {"model": "resnet_ti", "model.stem_width": 5, "model.widths": "6,8"},
}


def reference(start: Array, gradients: list[Array], decay: float) -> tuple[Array, Array]:
    """Algorithm 1 of arXiv 2405.15682: x and y behind the last step. Gradients are given."""
    x, y, z, v, total = start, start, start, np.zeros_like(start), 0.0
    for t, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), start=1):
        v = BETAS[1] * v + (1 - BETAS[1]) * gradient**2
        gamma = rate * np.sqrt(1 - BETAS[1] ** t)
        z = z - gamma * gradient / (np.sqrt(v) + EPS) - gamma * decay * y
        total += gamma**2
        c = gamma**2 / total
        x = (1 - c) * x + c * z
        y = (1 - BETAS[0]) * z + BETAS[0] * x
    return x, y


def small_model() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)).double()


def rule_of(model: nn.Module) -> ScheduleFree:
    found = create_optimizer(parameter_groups(model, CONFIG), CONFIG)
    assert isinstance(found, ScheduleFree)
    return found


def test_equals_the_float64_reference() -> None:
    """The network holds y, the averages x; only kernels decay."""
    model = small_model()
    start = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    given: dict[str, list[Array]] = {name: [] for name in start}
    rule = rule_of(model)
    averages = Averages(model, rule)
    for name, value in averages.tensors().items():
        assert np.array_equal(value.numpy(), start[name])  # before the first step
    for rate in RATES:
        for name, value in model.named_parameters():
            value.grad = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            given[name].append(value.grad.numpy().copy())
        set_lr(rule, rate)
        rule.step()
    shipped = small_model()
    averages.copy_to(shipped)
    for name, value in model.named_parameters():
        decay = DECAY if name in ("0.weight", "2.weight") else 0.0
        x, y = reference(start[name], given[name], decay)
        assert np.abs(value.detach().numpy() - y).max() <= 1e-12, name
        assert np.abs(shipped.get_parameter(name).detach().numpy() - x).max() <= 1e-12, name
        assert np.abs(x - y).max() > 1e-4


def test_what_is_not_trained_stays() -> None:
    """No state for it, and the averages have the network's own value."""
    model = small_model()
    model.get_parameter("0.weight").requires_grad_(False)
    rule = rule_of(model)
    before = model.get_parameter("0.weight").detach().clone()
    for value in model.parameters():
        value.grad = torch.ones_like(value) if value.requires_grad else None
    rule.step()
    assert torch.equal(Averages(model, rule).tensors()["0.weight"], before)
    assert model.get_parameter("0.weight") not in rule.state


def train(
    folder: Path, name: str, *layers: dict[str, Any], reporter: SilentReporter | None = None
) -> RunResult:
    given = [("test", layer) for layer in (COMMON, *layers)]
    return loop.train(given, runs_dir=folder, name=name, reporter=reporter, with_report=False)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_ships_the_average_and_resumes_bit_for_bit(model: str, tmp_path: Path) -> None:
    straight = train(tmp_path, "straight", MODELS[model])
    stopped = train(tmp_path, "stopped", MODELS[model], reporter=StopAt(1))
    assert stopped.stopped == "SIGINT"
    loop.resume(stopped.run_dir, with_report=False)
    assert records(stopped.run_dir) == records(straight.run_dir)
    assert weights(stopped.run_dir) == weights(straight.run_dir)

    newest = straight.run_dir / "checkpoints" / f"step-{straight.best['step']:08d}"
    y, x = load_file(newest / "model.safetensors"), load_file(newest / "ema.safetensors")
    sent = load_file(straight.run_dir / "model" / "model.safetensors")
    assert sent.keys() == x.keys() == y.keys()
    assert all(torch.equal(value, x[name]) for name, value in sent.items())
    same = {name for name in x if torch.equal(x[name], y[name])}
    assert same == {name for name in x if "running" in name}
    assert straight.test is not None
    assert (
        load(straight.run_dir).evaluate("builtin:digits").to_json()["top1"]
        == (straight.test["top1"])
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"schedule.name": "cosine"}, "--schedule.name constant"),
    ({"schedule.cooldown": 0.2}, "--schedule.cooldown 0"),
    ({"ema": 0.99}, "--ema 0"),
]


@pytest.mark.parametrize(("changes", "way"), REFUSED, ids=[way for _, way in REFUSED])
def test_what_it_does_not_go_with(changes: dict[str, Any], way: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=way) as caught:
        train(tmp_path, "run", changes)
    assert caught.value.code == "VIT-244"
    assert not list(tmp_path.iterdir())


def test_it_learns(tmp_path: Path) -> None:
    """Eight images by heart, judged at x: the average is not of the first, random values."""

    def loss_of(rule: ScheduleFree, model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
        for _ in range(200):
            rule.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
            rule.step()
        Averages(model, rule).copy_to(model)
        return nn.functional.cross_entropy(model(inputs), labels).item()

    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(7, 31), nn.ReLU(), nn.Linear(31, 5)).double()
    inputs, labels = torch.randn(8, 7, dtype=torch.float64), torch.arange(8) % 5
    assert loss_of(rule_of(model), model, inputs, labels) < 0.1

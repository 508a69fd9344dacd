"""The suggested rate is never worse than that of the settings, as far as can be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.training.running import TINY
from vitrail.errors import TrainingError
from vitrail.training import lr_sweep as module
from vitrail.training.lr_sweep import LrFind, Trials, lr_find
from vitrail.training.reporter import SilentReporter

GOOD = 4e-3  # for this model, in so few steps
STEPS = 25


def found(**changes: Any) -> LrFind:
    layer = {key: value for key, value in TINY.items() if key != "steps"}
    layer |= {"augment.policy": "none", "augment.mixup": 0.0, "model.dropout": 0.0}
    layers = [("test", {**layer, **{key.replace("__", "."): one for key, one in changes.items()}})]
    return lr_find(layers, SilentReporter(), num_steps=STEPS)


@pytest.mark.slow
def test_a_rate_that_is_far_too_low_or_high_is_left_for_a_better_one() -> None:
    low = found(optim__lr=GOOD / 64)
    assert low.suggestion >= GOOD / 4
    assert "clearly better" in low.sentence
    high = found(optim__lr=1.0, optim__clip=0.0)
    assert high.suggestion <= 0.1
    assert high.default == 1.0
    assert min(high.lrs) < 0.25  # looked further where the best lay at the end


def made(losses: Callable[[float, int], Any], monkeypatch: pytest.MonkeyPatch) -> LrFind:
    """A search over trainings that come to `losses`, by rate over the default one and seed."""
    monkeypatch.setattr(Trials, "_train", lambda self, lr, seed: losses(lr / 2e-3, seed))
    monkeypatch.setattr(Trials, "untrained", lambda self, seed: 2.3)
    return lr_find([("test", {"data.path": "builtin:digits", "optim.lr": 2e-3})], SilentReporter())


def scattered(mean: float, seed: int) -> Any:
    return mean + np.random.default_rng(seed).normal(0, 0.5, 180)


def test_the_rate_of_the_settings_stays_where_nothing_is_clearly_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = made(
        lambda f, seed: scattered(1.0 + 0.01 * abs(f - 2), round(100 * f) + 7 * seed), monkeypatch
    )
    assert kept.suggestion == kept.default == 2e-3
    assert "no rate is clearly better than 2.0e-03" in kept.sentence


def test_one_seed_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    lucky = made(lambda f, seed: scattered(0.5 if f == 2 and not seed else 1.0, 3), monkeypatch)
    assert lucky.suggestion == lucky.default
    both = made(lambda f, seed: scattered(0.5 if f == 2 else 1.0, 3), monkeypatch)
    assert both.suggestion == 2 * both.default


def test_a_diverged_training_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(
        lambda f, seed: np.array([np.inf]) if f > 0.6 else scattered(1.0 + f, 3), monkeypatch
    )
    assert one.suggestion <= 0.5 * one.default
    assert all(np.isnan(loss) for lr, loss in zip(one.lrs, one.losses, strict=True) if lr > 2e-3)


def test_a_loss_that_never_falls_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match="made the loss fall in 100 steps") as caught:
        made(lambda f, seed: scattered(2.3, 3), monkeypatch)
    assert caught.value.code == "VIT-602"


def test_hidden_patches_have_a_rate_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FACTORS", (0.5, 1.0, 2.0))
    one = found(objective="masked_patches", recipe="paper.masked_patches", optim__lr=1e-3)
    assert one.suggestion in one.lrs
    assert len(one.losses) == len(one.lrs) >= 3

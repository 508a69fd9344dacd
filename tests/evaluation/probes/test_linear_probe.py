"""Logistic regression: scikit-learn in float64, a closed form, the gradient, the choice of l2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vitrail.evaluation.probes.linear_probe import (
    SWEEP,
    TOLERANCE,
    Linear,
    best_of,
    fit_sweep,
    minimise,
)


def made(n: int = 101, dim: int = 7, num_classes: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """Features (n, dim) of unequal scales that say something of the labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, n)
    centres = rng.normal(size=(num_classes, dim))
    x = centres[labels] + rng.normal(size=(n, dim))
    return (x * np.arange(1, dim + 1) + 5).astype(np.float32), labels


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_equals_scikit_learn(l2: float, num_classes: int) -> None:
    x, y = made(num_classes=num_classes)
    ours = fit_sweep(x, y, num_classes, [l2], tolerance=1e-10)[0]
    standard = (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    # with two classes theirs has one row of weights, ours two that mirror each other
    strength = (2 if num_classes == 2 else 1) / (l2 * len(x))
    theirs = LogisticRegression(C=strength, tol=1e-12, max_iter=1000, solver="newton-cholesky")
    expected = theirs.fit(standard, y).predict_proba(standard)
    got = ours.logits(x).softmax(dim=1).numpy()
    assert np.abs(got - expected).max() <= 1e-6  # measured: 5.5e-8
    assert ours.gradient <= 2e-8


def test_another_l2_does_not_equal_it() -> None:
    x, y = made()
    strong, weak = fit_sweep(x, y, 3, [1e-2, 2e-2], tolerance=1e-10)
    difference = strong.logits(x).softmax(dim=1) - weak.logits(x).softmax(dim=1)
    assert difference.abs().max() > 1e-3


def test_without_information_the_bias_is_the_log_share() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2] * 2)
    found = fit_sweep(np.full((11, 5), 2.5, np.float32), labels, 3, [1e-3], tolerance=1e-12)[0]
    p = found.logits(np.full((1, 5), 2.5, np.float32)).softmax(dim=1)[0].tolist()
    assert p == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=1e-8)
    assert found.weights.abs().max() == 0


def test_where_it_stops_the_gradient_is_that_of_a_numpy_formula() -> None:
    x, y = made(n=31, dim=5)
    found = fit_sweep(x, y, 3, [0.05], tolerance=1e-9)[0]
    z = (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    w, b = found.weights.numpy(), found.bias.numpy()
    scores = z @ w.T + b
    p = np.exp(scores - scores.max(1, keepdims=True))
    residual = (p / p.sum(1, keepdims=True) - np.eye(3)[y]) / len(x)
    assert np.abs(residual.T @ z + 0.05 * w).max() <= 1e-8
    assert np.abs(residual.sum(0)).max() <= 1e-8


def test_a_sweep_goes_from_strong_to_weak_and_ends_where_single_fits_do() -> None:
    x, y = made()
    fits = fit_sweep(x, y, 3)
    assert [one.l2 for one in fits] == sorted(SWEEP, reverse=True)
    norms = [float(one.weights.norm()) for one in fits]
    assert norms == sorted(norms)
    alone = fit_sweep(x, y, 3, [fits[3].l2])[0]
    assert (alone.weights - fits[3].weights).abs().max() <= 1e-3


def test_features_that_depend_on_each_other_take_few_steps() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 211)
    hidden = rng.normal(size=(211, 13)) + np.eye(3, 13)[y]
    mixed = hidden @ (rng.normal(size=(13, 13)) * np.logspace(0, -4, 13)[:, None])
    fits = fit_sweep(mixed.astype(np.float32), y, 3)
    assert max(one.iterations for one in fits) < 40  # measured: 13
    assert max(one.gradient for one in fits) <= TOLERANCE
    # without the scaling, measured: 153
    x = torch.from_numpy((mixed - mixed.mean(0)) / mixed.std(0))
    alike, start = torch.ones(13).double(), torch.zeros(3, 14).double()
    assert minimise(x, torch.from_numpy(y), start, 1e-6, alike, TOLERANCE)[1] > 100


def test_progress_counts_the_fits() -> None:
    steps: list[tuple[str, int, int]] = []
    fit_sweep(*made(), 3, [0.1, 1.0], progress=lambda *step: steps.append(step))
    assert steps == [("logistic regression, l2 1", 1, 2), ("logistic regression, l2 0.1", 2, 2)]


def test_fewer_images_than_features_and_a_class_without_images() -> None:
    x, y = made(n=11, dim=29, num_classes=3)
    fits = fit_sweep(x, y, 4)  # nothing shows class 3
    assert all(math.isfinite(one.gradient) for one in fits)
    assert fits[-1].accuracy(x, y) == 1.0


def test_of_equally_good_ones_the_strongest_is_chosen() -> None:
    def biased(bias: list[float], l2: float) -> Linear:
        zero = torch.zeros(2, dtype=torch.float64)
        return Linear(
            zero, zero + 1, torch.zeros(3, 2).double(), torch.tensor(bias).double(), l2, 1, 0.0
        )

    fits = [biased([0, 0, 1], 3.0), biased([0, 1, 0], 2.0), biased([0, 2, 0], 1.0)]
    labels = np.array([1, 1, 0])
    place, scores = best_of(fits, np.zeros((3, 2), np.float32), labels)
    assert place == 1
    assert scores == pytest.approx([0, 2 / 3, 2 / 3])

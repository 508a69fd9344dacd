"""Few-shot ridge: big_vision's golden case, a direct solution in float64, closed forms, laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.ridge_numpy import ridge_scores
from vitrail.evaluation.probes import ridge
from vitrail.evaluation.probes.ridge import BIAS, L2, SWEEP, draw_shots, fit

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cases" / "fewshot_ridge"
CASE: dict[str, Any] = json.loads((GOLDEN / "case.json").read_text(encoding="utf-8"))
PARTS = [
    (item, seed, shots)
    for item in CASE["items"]
    for seed in item["seeds"]
    for shots in item["shots"]
]
# float64 against float64: what is left is the order of sums, worst at l2 = 2^-10 (measured 7.3e-11)
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    with np.load(GOLDEN / "io.npz", allow_pickle=False) as found:
        return dict(found)


def case_id(part: Any) -> str:
    return str(part["key"] if isinstance(part, dict) else part)


@pytest.mark.parametrize(("item", "seed", "shots"), PARTS, ids=case_id)
def test_golden_case(arrays: dict[str, Any], item: dict[str, Any], seed: int, shots: int) -> None:
    key, num_classes = item["key"], item["classes"]
    name = f"{key}_seed{seed}_shots{shots}"
    rows = draw_shots(arrays[f"{key}_y_train"], num_classes, shots, seed)
    np.testing.assert_array_equal(rows, arrays[f"{name}_idx"])
    found = fit(arrays[f"{key}_x_train"][rows], arrays[f"{key}_y_train"][rows], num_classes)
    x, y = arrays[f"{key}_x_test"], arrays[f"{key}_y_test"]
    for l2, expected in zip(item["l2"], arrays[f"{name}_scores_f64"], strict=True):
        assert np.abs(found.scores(x, l2) - expected).max() <= TOLERANCE, l2
    # the reference's float32 accuracies; the case states how far they are from float64
    stated = CASE["max_abs_differences"]
    allowed = stated[f"{name}: accuracy reference (float32) vs float64 solve, max over l2"]
    got = found.accuracies(x, y, item["l2"])
    assert np.abs(np.array(got) - arrays[f"{name}_acc"]).max() <= allowed + 1e-7


def wrong_eps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ridge, "EPS", 1e-3)


def wrong_bias(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ridge, "BIAS", 1.0)


@pytest.mark.parametrize("change", [wrong_eps, wrong_bias])
def test_another_constant_fails_the_golden_case(
    arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    change(monkeypatch)
    rows = draw_shots(arrays["f0_y_train"], 5, 5, 0)
    found = fit(arrays["f0_x_train"][rows], arrays["f0_y_train"][rows], 5)
    scores = found.scores(arrays["f0_x_test"], 1024.0)
    assert np.abs(scores - arrays["f0_seed0_shots5_scores_f64"][4]).max() > 1e3 * TOLERANCE


def made(n: int, dim: int, num_classes: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Features and labels of n training and 23 other images."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % num_classes
    x = rng.normal(size=(n, dim)).astype(np.float32) * 3 + labels[:, None] * 0.7
    return x.astype(np.float32), labels, rng.normal(size=(23, dim)).astype(np.float32)


@pytest.mark.parametrize(("n", "dim"), [(13, 29), (29, 13), (13, 13), (14, 13), (17, 1)])
@pytest.mark.parametrize("l2", [2.0**-5, 1.0, L2])
def test_both_branches_equal_the_direct_solution(n: int, dim: int, l2: float) -> None:
    x, y, x_test = made(n, dim, 3)
    expected = ridge_scores(x, y, x_test, 3, l2)
    assert np.abs(fit(x, y, 3).scores(x_test, l2) - expected).max() <= 1e-9


def test_two_points_in_closed_form() -> None:
    """Features -1 and 1 stay so (mean 0, std 1): w = 2 y x / (2 + l2), no bias."""
    x = np.array([[-1.0], [1.0]], np.float32)
    found = fit(x, np.array([0, 1]), 2)
    std = 1 + 1e-5
    w = found.weights(3.0)
    assert w[0].tolist() == pytest.approx([-2 / std / (2 / std**2 + 3), 2 / std / (2 / std**2 + 3)])
    assert w[1].tolist() == pytest.approx([0, 0], abs=1e-15)


def test_the_constant_is_a_bias_that_is_hardly_regularised() -> None:
    """Without any information in the features the scores are the mean targets, 2 p - 1."""
    x = np.zeros((20, 3), np.float32)
    labels = np.array([0] * 15 + [1] * 5)
    shrink = BIAS**2 * 20 / (BIAS**2 * 20 + L2)
    scores = fit(x, labels, 2).scores(x[:1], L2)[0]
    assert scores.tolist() == pytest.approx([0.5 * shrink, -0.5 * shrink])
    assert shrink > 0.99


@given(st.integers(1, 12), st.integers(0, 5), st.integers(2, 5))
def test_draws_hold_the_same_number_of_each_class_and_contain_each_other(
    shots: int, seed: int, num_classes: int
) -> None:
    labels = np.random.default_rng(1).permutation(np.arange(11 * num_classes) % num_classes)
    rows = draw_shots(labels, num_classes, shots, seed)
    assert len(set(rows.tolist())) == len(rows) == min(shots, 11) * num_classes
    assert np.bincount(labels[rows]).tolist() == [min(shots, 11)] * num_classes
    assert set(rows.tolist()) <= set(draw_shots(labels, num_classes, shots + 1, seed).tolist())


def test_other_seeds_draw_other_images() -> None:
    labels = np.arange(70) % 7
    assert len({tuple(draw_shots(labels, 7, 3, seed)) for seed in range(5)}) == 5


def test_the_sweep_is_what_separate_fits_give() -> None:
    x, y, x_test = made(19, 7, 3, seed=2)
    labels = np.arange(23) % 3
    found = fit(x, y, 3)
    expected = [
        float((ridge_scores(x, y, x_test, 3, l2).argmax(axis=1) == labels).mean()) for l2 in SWEEP
    ]
    assert found.accuracies(x_test, labels, SWEEP) == expected


def test_features_that_say_the_class_are_read_and_noise_is_not() -> None:
    labels = np.arange(60) % 3
    noise = np.random.default_rng(5).normal(size=(60, 11)).astype(np.float32)
    telling = noise + 9 * np.eye(3, 11, dtype=np.float32)[labels]
    train, rest = slice(0, 30), slice(30, 60)
    read, guessed = (
        fit(x[train], labels[train], 3).accuracies(x[rest], labels[rest], [L2])[0]
        for x in (telling, noise)
    )
    assert read > 0.95
    assert guessed < 0.7

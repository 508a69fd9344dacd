"""The fitted temperature against SciPy's minimum, closed forms and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_softmax, softmax

from vitrail.errors import DataError
from vitrail.evaluation.calibrate import fit_temperature


def made(n: int, k: int, seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `scale` times the true ones, and labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * 1.5
    labels = (softmax(z, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, k - 1)
    return (z * scale).astype(np.float32), labels.astype(np.int64)


def made_several(n: int, c: int, seed: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, c)) * 1.5
    return (z * scale).astype(np.float32), (rng.random((n, c)) < expit(z)).astype(np.float32)


@pytest.mark.parametrize(("scale", "seed"), [(1.0, 0), (4.0, 1), (0.3, 2)])
def test_equals_scipys_minimum_of_the_nll(scale: float, seed: int) -> None:
    logits, labels = made(311, 7, seed, scale)
    z = logits.astype(np.float64)
    own = z[np.arange(len(z)), labels]

    def nll(t: float) -> float:
        return float(-log_softmax(z / t, axis=1)[np.arange(len(z)), labels].mean())

    def slope(beta: float) -> float:
        return float(((softmax(beta * z, axis=1) * z).sum(axis=1) - own).mean())

    found = fit_temperature(logits, labels)
    assert found == pytest.approx(1 / brentq(slope, 1e-3, 1e3, xtol=1e-15), abs=1e-9)
    assert found == pytest.approx(minimize_scalar(nll, (0.01, scale, 30)).x, rel=1e-5)
    assert nll(found) <= min(nll(1.0), nll(0.999 * found), nll(1.001 * found))
    assert found == pytest.approx(scale, rel=0.15)  # the data were made with it


def test_several_labels_equal_scipys_minimum() -> None:
    logits, labels = made_several(211, 5, 3, 2.0)
    z = logits.astype(np.float64)

    def slope(beta: float) -> float:
        return float((z * (expit(beta * z) - labels)).mean())

    found = fit_temperature(logits, labels)
    assert found == pytest.approx(1 / brentq(slope, 1e-3, 1e3, xtol=1e-15), abs=1e-9)
    assert found == pytest.approx(2.0, rel=0.2)


def test_one_logit_of_two_classes_in_closed_form() -> None:
    """Right in a of n images with a margin m each: a / n = sigmoid(m / T)."""
    logits = np.array([[2.0, 0.0]] * 10, np.float32)
    labels = np.array([0] * 7 + [1] * 3)
    assert fit_temperature(logits, labels) == pytest.approx(2 / math.log(7 / 3), abs=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0.125, 0.5, 2.0, 64.0]))
def test_scaled_logits_have_a_scaled_temperature_and_the_same_order(
    seed: int, factor: float
) -> None:
    logits, labels = made(101, 4, seed)
    found = fit_temperature(logits, labels)
    assert fit_temperature(logits * np.float32(factor), labels) == pytest.approx(
        factor * found, rel=1e-9
    )
    shifted = logits + np.float32(8.0)  # softmax does not see it
    assert fit_temperature(shifted, labels) == pytest.approx(found, rel=1e-4)
    assert np.array_equal((logits / found).argmax(axis=1), logits.argmax(axis=1))


def test_many_rows_are_summed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = made(101, 4, 5)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr("vitrail.evaluation.calibrate.CHUNK", 40)
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "why"),
    [([0, 0, 1], "all are right"), ([1, 1, 0], "no better than chance")],
)
def test_without_a_minimum_it_says_why(labels: list[int], why: str) -> None:
    logits = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]], np.float32)
    with pytest.raises(DataError, match=why) as caught:
        fit_temperature(logits, np.array(labels))
    assert caught.value.code == "VIT-363"


def test_beyond_what_a_model_may_hold() -> None:
    logits = np.array([[1e-5, 0.0]] * 7 + [[0.0, 1e-5]] * 3, np.float32)
    with pytest.raises(DataError, match="outside"):
        fit_temperature(logits, np.zeros(10, np.int64))

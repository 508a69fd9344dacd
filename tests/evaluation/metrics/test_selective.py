"""Risk and coverage against plain loops over every order, closed forms and laws."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc

from vitrail.evaluation.metrics import selective
from vitrail.evaluation.metrics.selective import area, best_area, groups, largest_coverage, risk_at

PICTURES = st.lists(st.tuples(st.sampled_from([0.2, 0.4, 0.6, 0.9]), st.booleans()), min_size=1)


def of(pairs: list[tuple[float, bool]]) -> selective.Groups:
    return groups(np.array([p for p, _ in pairs]), np.array([right for _, right in pairs], bool))


def mean_over_orders(pairs: list[tuple[float, bool]]) -> tuple[float, list[float]]:
    """Area and risks at k = 1..n, averaged over every order that puts the surer ones first."""
    risks = []
    for order in permutations(pairs):
        if all(a[0] >= b[0] for a, b in zip(order, order[1:], strict=False)):
            wrong = np.cumsum([not right for _, right in order])
            risks.append(wrong / np.arange(1, len(order) + 1))
    mean = np.mean(risks, axis=0)
    return float(mean.mean()), list(mean)


@pytest.mark.parametrize(
    "pairs",
    [
        [(0.9, True), (0.9, False), (0.9, False), (0.5, True), (0.5, False), (0.3, True)],
        [(0.5, False)] * 3 + [(0.4, True)] * 2,
        [(0.7, True)],
    ],
)
def test_area_and_risks_are_means_over_the_orders_of_equals(
    pairs: list[tuple[float, bool]],
) -> None:
    expected, risks = mean_over_orders(pairs)
    found = of(pairs)
    assert area(found) == pytest.approx(expected, abs=1e-12)
    assert [risk_at(found, k + 1) for k in range(len(pairs))] == pytest.approx(risks, abs=1e-12)


def test_area_without_equals_is_the_sum_of_risks() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(211), rng.random(211) < 0.7
    risks = np.cumsum(~correct[np.argsort(-confidence)]) / np.arange(1, 212)
    assert area(groups(confidence, correct)) == pytest.approx(risks.mean(), abs=1e-12)
    # scikit-learn's trapezia leave out half of either end
    trapezia = auc(np.arange(1, 212) / 211, risks) + (risks[0] + risks[-1]) / 2 / 211
    assert area(groups(confidence, correct)) == pytest.approx(trapezia, abs=1e-12)


@given(PICTURES)
def test_the_curve_ends_at_the_error(pairs: list[tuple[float, bool]]) -> None:
    error = 1 - np.mean([right for _, right in pairs])
    document: dict[str, Any] = selective.selective(
        np.array([p for p, _ in pairs]), np.array([right for _, right in pairs], bool)
    )
    assert document["curve"][-1]["coverage"] == 1.0
    assert document["curve"][-1]["risk"] == pytest.approx(error, abs=1e-12)
    assert document["curve"][-1]["threshold"] == min(p for p, _ in pairs)
    assert document["excess"] >= 0
    assert document["area"] >= best_area(len(pairs), round(error * len(pairs))) - 1e-12


@given(PICTURES, st.randoms())
def test_neither_order_nor_scale_of_confidence_counts(
    pairs: list[tuple[float, bool]], random: Any
) -> None:
    mixed = list(pairs)
    random.shuffle(mixed)
    expected = area(of(pairs))
    assert area(of(mixed)) == pytest.approx(expected, abs=1e-12)
    assert area(of([(p**3, right) for p, right in mixed])) == pytest.approx(expected, abs=1e-12)


def test_equal_confidence_gives_the_error() -> None:
    assert area(of([(0.5, False)] * 3 + [(0.5, True)] * 4)) == pytest.approx(3 / 7, abs=1e-12)


def test_a_perfect_order_has_no_excess_and_the_worst_has_most() -> None:
    right, wrong = [(0.9 - 0.01 * i, True) for i in range(5)], [(0.4, False), (0.3, False)]
    assert area(of(right + wrong)) == pytest.approx(best_area(7, 2), abs=1e-12)
    assert best_area(7, 2) == pytest.approx((1 / 6 + 2 / 7) / 7, abs=1e-12)
    worst = [(1 - p, is_right) for p, is_right in right + wrong]
    assert area(of(worst)) > area(of(right + wrong)) + 0.3


def test_largest_coverage_keeps_equals_together() -> None:
    found = of([(0.9, True), (0.8, True), (0.8, False), (0.7, True), (0.7, True), (0.1, False)])
    assert largest_coverage(found, 0.0) == pytest.approx(1 / 6)
    assert largest_coverage(found, 0.2) == pytest.approx(5 / 6)
    assert largest_coverage(found, 1.0) == 1.0
    assert largest_coverage(of([(0.9, False), (0.2, True)]), 0.1) == 0.0


def test_no_images() -> None:
    assert selective.selective(np.zeros(0), np.zeros(0, bool)) == {}

"""Wilson's and Student's intervals against SciPy, known examples and laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t, ttest_1samp

from vitrail.evaluation.metrics.intervals import mean_interval, student_t, wilson


@pytest.mark.parametrize(
    ("correct", "n"), [(173, 180), (0, 7), (7, 7), (1, 1), (50, 101), (9_999, 10_000)]
)
def test_equals_scipy(correct: int, n: int) -> None:
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_173_of_180_is_the_example_of_the_docs() -> None:
    low, high = wilson(173, 180)
    assert (round(low, 3), round(high, 3)) == (0.922, 0.981)


def test_no_images_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_holds_the_share_and_is_symmetric(n: int, share: float) -> None:
    correct = round(share * n)
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    mirrored = wilson(n - correct, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 10, 101])
def test_students_t_equals_scipys_distribution(degrees: int) -> None:
    for confidence in (0.5, 0.95, 0.999):
        expected = float(t.ppf(0.5 + confidence / 2, degrees))
        assert student_t(degrees, confidence) == pytest.approx(expected, rel=1e-9)


def test_students_t_of_one_and_two_degrees_has_a_closed_form() -> None:
    for share in (0.5, 0.95, 0.999):
        assert student_t(1, share) == pytest.approx(math.tan(math.pi * share / 2), rel=1e-12)
        two = share * math.sqrt(2 / (1 - share**2))
        assert student_t(2, share) == pytest.approx(two, rel=1e-12)


def test_interval_of_a_mean() -> None:
    shares = [0.41, 0.47, 0.52]
    expected = ttest_1samp(shares, 0).confidence_interval(0.95)
    assert mean_interval(shares) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert mean_interval([0.0, 1.0]) == (0.0, 1.0)  # cut to what a share can be
    assert mean_interval([0.5] * 4) == (0.5, 0.5)
    assert mean_interval([0.5]) == (0.0, 1.0)

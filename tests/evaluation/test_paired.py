"""McNemar against SciPy, Newcombe's interval against published figures, the words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tests.report.made_run import made_evaluation
from vitrail.evaluation import paired
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.paired import compare, mcnemar, newcombe
from vitrail.evaluation.record import Evaluation

COUNTS = st.integers(0, 60)


@pytest.mark.parametrize(
    ("b", "c"), [(0, 0), (0, 1), (3, 11), (11, 3), (7, 7), (0, 12), (900, 1011)]
)
def test_mcnemar_equals_scipys_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_images_is_finite() -> None:
    assert mcnemar(0, 12) == 2 / 2**12
    assert mcnemar(20_000, 20_000) == 1.0
    assert mcnemar(0, 40_000) == 0.0


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # airway hyper-responsiveness before and after transplantation (Bentur et al. 2009), as in
        # Fagerland, Lydersen and Laake, Statistical analysis of contingency tables, chapter 8
        ((1, 1, 7, 12), (-0.507, -0.026)),
    ],
)
def test_newcombe_equals_published_figures(
    table: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    assert newcombe(*table) == pytest.approx(expected, abs=6e-4)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_newcombe_holds_the_difference_and_mirrors(a: int, b: int, c: int, d: int) -> None:
    n = a + b + c + d
    if n == 0:
        return
    low, high = newcombe(a, b, c, d)
    assert -1 - 1e-12 <= low <= (b - c) / n + 1e-12
    assert (b - c) / n - 1e-12 <= high <= 1 + 1e-12
    assert newcombe(a, c, b, d) == pytest.approx((-high, -low), abs=1e-12)


def test_newcombe_without_correlation_is_the_interval_of_two_samples() -> None:
    """phi is 0 for independent answers: the squares of Wilson's half widths add."""
    n, (a, b) = 100, (60, 50)
    low, high = newcombe(30, 30, 20, 20)
    (low_a, high_a), (low_b, high_b) = wilson(a, n), wilson(b, n)
    assert low == pytest.approx(0.1 - np.hypot(0.6 - low_a, high_b - 0.5), abs=1e-12)
    assert high == pytest.approx(0.1 + np.hypot(high_a - 0.6, 0.5 - low_b), abs=1e-12)


def test_newcombe_covers_the_true_difference() -> None:
    rng = np.random.default_rng(0)
    tables = rng.multinomial(80, [0.6, 0.12, 0.05, 0.23], size=400)
    hits = [low <= 0.07 <= high for low, high in (newcombe(*map(int, row)) for row in tables)]
    assert 0.92 <= np.mean(hits) <= 0.99


def two(n: int = 211, better: float = 0.0) -> tuple[Evaluation, Evaluation]:
    """Two models on the same images; the first is right more often by about `better`."""
    rng = np.random.default_rng(4)
    one = made_evaluation(["cat", "dog", "fox"], n, rng)
    p = one.probabilities.astype(float) * rng.uniform(0.6, 1.4, one.probabilities.shape)
    worse = rng.random(n) < better
    p[worse] = p[worse][:, ::-1]
    p /= p.sum(axis=1, keepdims=True)
    losses = -np.log(p[np.arange(n), one.labels])
    return one, Evaluation(one.classes, p.astype(np.float32), one.labels, losses, one.ids)


def test_a_model_against_itself() -> None:
    one, _ = two()
    found = compare(one, one)
    assert (found.only_a, found.only_b, found.p_value) == (0, 0, 1.0)
    assert found.top1_difference == found.nll_difference == 0
    assert found.nll_interval == (0, 0)
    assert found.top1_interval[0] < 0 < found.top1_interval[1]
    assert paired.sentences(found, "A", "B")[0].startswith("no evidence of a difference in top-1")


def test_figures_and_their_mirror_image() -> None:
    one, other = two()
    found, mirrored = compare(one, other), compare(other, one)
    assert found.n == 211
    assert found.top1_difference == pytest.approx(one.top1 - other.top1, abs=1e-12)
    assert found.nll_difference == pytest.approx(one.nll - other.nll, abs=1e-12)
    assert mirrored.nll_interval == pytest.approx(tuple(-x for x in found.nll_interval[::-1]))
    assert mirrored.p_value == found.p_value
    document = found.to_json()
    assert document["only_this"] == int((one.correct & ~other.correct).sum())
    assert document["top1"] == other.top1


def test_words_for_a_clear_difference() -> None:
    found = compare(*two(better=0.5))
    first, only, last = paired.sentences(found, "runs/a", "runs/b")
    assert first.startswith("runs/a is more accurate than runs/b: difference +")
    assert "p = below 0.0001" in first
    assert f"{found.only_a} images only runs/a gets right, {found.only_b} only runs/b" in only
    assert last.startswith("runs/a has the lower nll")
    first, _, last = paired.sentences(compare(*two(better=0.5)[::-1]), "x", "y")
    assert first.startswith("y is more accurate than x: difference -")
    assert last.startswith("y has the lower nll")


def test_other_images_are_refused() -> None:
    one, _ = two()
    with pytest.raises(ValueError, match="same images"):
        compare(one, made_evaluation(["cat", "dog", "fox"], 210, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="same images"):
        compare(one, Evaluation(one.classes, one.probabilities, one.labels, one.losses))


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1.00"), (0.412, "0.41"), (0.00321, "0.0032"), (1e-9, "below 0.0001")]
)
def test_p_values_in_words(value: float, text: str) -> None:
    assert paired.p_text(value) == text

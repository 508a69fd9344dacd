"""Bootstrap intervals: draws that are functions of a key, figures equal to recomputed ones, SciPy's
ends.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats._resampling import BootstrapResult

from tests.report.made_run import made_evaluation
from vitrail.evaluation import uncertainty
from vitrail.evaluation.metrics.bootstrap import (
    basic_interval,
    drawn,
    percentile_interval,
    replicated,
    uniform,
)
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.record import Evaluation

CLASSES = ["cat", "dog", "fox", "owl"]


def one_label(n: int = 83) -> Evaluation:
    return made_evaluation(CLASSES, n, np.random.default_rng(0))


def several_labels(n: int = 61) -> Evaluation:
    rng = np.random.default_rng(1)
    p = np.round(rng.random((n, 4)), 1).astype(np.float32)  # many equal scores
    labels = (rng.random((n, 4)) < p * [1, 1, 0.5, 0.1]).astype(np.float32)
    return Evaluation(tuple(CLASSES), p, labels, rng.random(n))


def taken(evaluation: Evaluation, counts: np.ndarray) -> Evaluation:
    """The evaluation whose images are those drawn, each row as often as it was drawn."""
    rows = np.repeat(np.arange(evaluation.n), counts)
    return Evaluation(
        evaluation.classes,
        evaluation.probabilities[rows],
        evaluation.labels[rows],
        evaluation.losses[rows],
    )


@given(st.integers(1, 300), st.integers(0, 50), st.integers(0, 9))
def test_a_draw_is_a_function_of_its_key(n: int, replicate: int, seed: int) -> None:
    counts = drawn(n, replicate, seed=seed)
    assert counts.sum() == n == len(counts)
    assert np.array_equal(counts, drawn(n, replicate, seed=seed))
    values = uniform(n, replicate, seed=seed)
    assert ((values >= 0) & (values < 1)).all()


def test_draws_differ_and_are_even() -> None:
    assert not np.array_equal(drawn(97, 0), drawn(97, 1))
    assert not np.array_equal(drawn(97, 0), drawn(97, 0, seed=1))
    total = sum(drawn(97, r) for r in range(400))
    assert stats.chisquare(total).pvalue > 0.001
    assert stats.kstest(uniform(2000, 3), "uniform").pvalue > 0.001
    assert drawn(7, 5).tolist() == [1, 1, 0, 1, 1, 1, 2]  # the same everywhere, for ever


@pytest.mark.parametrize("evaluation", [one_label(), several_labels()], ids=["one", "several"])
def test_figures_of_counts_equal_those_of_the_drawn_rows(evaluation: Evaluation) -> None:
    figures = uncertainty.figures_of(evaluation)
    for replicate in range(5):
        counts = drawn(evaluation.n, replicate)
        expected = taken(evaluation, counts)
        document = expected.to_json() | {"selective_area": expected.selective["area"]}
        for name, value in figures(counts).items():
            assert value == pytest.approx(document[name], abs=1e-9), name


def test_ends_equal_scipy() -> None:
    losses = one_label().losses
    values = replicated(lambda counts: {"nll": float(counts @ losses) / 83}, 83, replicates=200)[
        "nll"
    ]
    for method, ends in (
        ("percentile", percentile_interval(values)),
        ("basic", basic_interval(float(losses.mean()), values)),
    ):
        theirs = stats.bootstrap(
            (losses,),
            np.mean,
            n_resamples=0,
            method=method,
            bootstrap_result=BootstrapResult(None, values, None),
        ).confidence_interval
        assert ends == pytest.approx(tuple(theirs), abs=1e-9)


def test_a_mean_has_the_interval_of_its_normal_distribution() -> None:
    losses = np.random.default_rng(0).normal(size=400)
    values = replicated(lambda counts: {"nll": float(counts @ losses) / 400}, 400)["nll"]
    half = 1.96 * losses.std() / 20
    low, high = percentile_interval(values)
    assert (low, high) == pytest.approx((losses.mean() - half, losses.mean() + half), abs=0.012)


def test_intervals_of_an_evaluation() -> None:
    found, record = one_label().intervals, one_label()
    assert found["top1"] == record.interval == wilson(int(record.correct.sum()), 83)
    document = record.to_json() | {"selective_area": record.selective["area"]}
    assert set(found) == {
        "top1",
        "top5",
        "nll",
        "brier",
        "ece",
        "f1_macro",
        "balanced_accuracy",
        "selective_area",
    }
    for name, (low, high) in found.items():
        assert low <= document[name] <= high, name
        assert (low < high) or name == "top5"
    assert found == one_label().intervals
    more = {"f1_micro", "mean_average_precision"}
    assert set(several_labels().intervals) == set(found) | more


def test_ece_of_true_probabilities_may_be_chance_and_of_others_is_not() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(3), 500).astype(np.float32)
    labels = (p.cumsum(axis=1) < rng.random((500, 1))).sum(axis=1).clip(0, 2)
    losses = -np.log(p[np.arange(500), labels].astype(float))
    honest = Evaluation(("a", "b", "c"), p, labels, losses)
    low, high = honest.ece_by_chance
    assert low < honest.ece < high
    assert honest.intervals["ece"][0] == 0
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    boaster = Evaluation(("a", "b", "c"), sharp, labels, losses)
    assert boaster.ece > boaster.ece_by_chance[1]
    assert 0.02 < boaster.intervals["ece"][0] < boaster.ece < boaster.intervals["ece"][1]


def test_class_intervals_are_wilsons() -> None:
    record = one_label()
    found, scores = uncertainty.class_intervals(record), record.class_scores
    for i, name in enumerate(CLASSES):
        hits = int(((record.labels == i) & record.correct).sum())
        assert found[name]["recall"] == wilson(hits, int(scores.n[i]))
        assert found[name]["precision"] == wilson(hits, int(scores.predicted[i]))


def test_fewer_than_two_images_have_no_intervals() -> None:
    p = np.array([[0.9, 0.1]], np.float32)
    assert Evaluation(("a", "b"), p, np.array([0]), np.array([0.1])).intervals == {}


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", [1.0, 1.5])
def test_intervals_hold_the_true_values(sharpness: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images whose true probabilities are known; docs/evaluation.md has more of these figures."""
    monkeypatch.setattr(uncertainty, "REPLICATES", 200)
    rng = np.random.default_rng(1)

    def made(n: int) -> Evaluation:
        z = rng.normal(size=(n, 5)) * 1.5
        true = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        labels = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 4)
        p = np.exp(sharpness * z) / np.exp(sharpness * z).sum(axis=1, keepdims=True)
        losses = -np.log(p[np.arange(n), labels])
        return Evaluation(tuple("abcde"), p.astype(np.float32), labels, losses)

    many = made(200_000)
    truth = uncertainty.figures_of(many)(np.ones(many.n, np.int64))
    sets = [made(400).intervals for _ in range(60)]
    for name, value in truth.items():
        hits = sum(one[name][0] <= value <= one[name][1] for one in sets)
        assert hits >= 60 * 0.85, (name, hits)

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.studies.made_rows import made_row
from vitrail.studies.engine.row import Row
from vitrail.studies.results.summary import Difference, best, difference, in_words, points, series


def rows_of(arm: str, n: int, tops: list[float], first_seed: int = 0) -> list[Row]:
    return [
        made_row(arm, first_seed + seed, {"pictures": n}, {"test/top1": top})
        for seed, top in enumerate(tops)
    ]


def test_points_are_means_with_students_intervals_in_order_of_x() -> None:
    tops = [0.91, 0.95, 0.99, 0.97]
    rows = [*rows_of("b", 4000, tops), *rows_of("b", 500, [0.5]), *rows_of("a", 500, [0.4, 0.6])]
    found = points(rows, "test/top1", "pictures")
    assert list(found) == ["b", "a"]
    assert [one.x for one in found["b"]] == [500, 4000]
    single, four = found["b"]
    assert (single.mean, single.low, single.high, single.values) == (0.5, None, None, (0.5,))
    low, high = stats.t.interval(0.95, 3, np.mean(tops), stats.sem(tops))
    assert four.low == pytest.approx(low, abs=1e-12)
    assert high > 1
    assert four.high == 1.0  # a share ends there
    assert four.values == tuple(tops)


def test_intervals_end_where_their_figure_does() -> None:
    rows = [*rows_of("a", 500, [0.01, 0.99]), *rows_of("b", 500, [0.98, 0.03])]
    (a,), (b,) = points(rows, "test/top1", "pictures").values()
    assert (a.low, a.high, b.low, b.high) == (0.0, 1.0, 0.0, 1.0)
    gap = difference(rows, "a", "b", "test/top1")
    assert (gap.low, gap.high) == (-1.0, 1.0)
    seconds = [made_row("a", seed, {"n": 1}, {"secs": 9.0 * seed}) for seed in (0, 1)]
    (line,) = points(seconds, "secs", "n").values()
    assert line[0].high is not None
    assert line[0].high > 50  # no share


def test_texts_stand_in_order_of_appearance_and_rows_without_the_value_are_left_out() -> None:
    rows = [made_row("a", 0, {"kind": kind}, {"v": 1.0}) for kind in ("none", "2-D", "1-D")]
    rows.append(made_row("a", 0, {"kind": "other"}, {"w": 1.0}))
    rows.append(made_row("c", 0, {"depth": 3}, {"v": 1.0}))
    found = points(rows, "v", "kind")
    assert list(found) == ["a"]
    assert [one.x for one in found["a"]] == ["none", "2-D", "1-D"]


def test_a_seed_that_occurs_twice_is_not_averaged_away() -> None:
    rows = [made_row("a", 0, {"n": 1, "lr": lr}, {"v": 1.0}) for lr in (0.1, 0.2)]
    with pytest.raises(AssertionError, match="seed 0 twice"):
        points(rows, "v", "n")


def test_series_of_numbers_and_of_categories() -> None:
    rows = [made_row("a", s, {"kind": k}, {"v": float(s)}) for k in ("x", "y") for s in (0, 1)]
    rows.append(made_row("a", 0, {"kind": "z"}, {"v": 3.0}))
    line = points(rows, "v", "kind")["a"]
    one = series("A", line, colour=2, kind="marks", x_labels=["y", "x", "z"])
    assert (one.name, list(one.x), list(one.y), one.colour) == ("A", [1, 0, 2], [0.5, 0.5, 3.0], 2)
    assert math.isnan(one.low[2])
    assert math.isnan(one.high[2])
    numbers = points(rows_of("a", 500, [0.1, 0.2]), "test/top1", "pictures")["a"]
    assert series("A", numbers, colour=0).x == [500.0]


def lr_rows() -> list[Row]:
    """The best validation is at 0.1 for a and at 0.3 for b; the test would choose otherwise."""
    val = {
        ("a", 0.1): (0.7, 0.8),
        ("a", 0.3): (0.9, 0.5),
        ("b", 0.1): (0.6,),
        ("b", 0.3): (0.6, 0.7),
    }
    return [
        made_row(arm, seed, {"lr": lr, "n": n}, {"val/top1": top - n / 1e6, "test/top1": 1 - top})
        for (arm, lr), tops in val.items()
        for n in (10, 20)
        for seed, top in enumerate(tops)
    ]


def test_best_is_by_validation_an_arm() -> None:
    chosen = best(lr_rows(), choose_by="val/top1", over="lr")
    assert {(row.arm, row.axes["lr"]) for row in chosen} == {("a", 0.1), ("b", 0.3)}
    assert len(chosen) == 8
    low = best(lr_rows(), choose_by="val/top1", over="lr", is_lower_better=True)
    assert {(row.arm, row.axes["lr"]) for row in low} == {("a", 0.3), ("b", 0.1)}


def test_best_within_another_axis() -> None:
    rows = [
        made_row("a", 0, {"lr": lr, "n": n}, {"val": 1.0 if lr * n == 2 else 0.0})
        for lr in (1, 2)
        for n in (1, 2)
    ]
    chosen = best(rows, choose_by="val", over="lr", within=["n"])
    assert [(row.axes["lr"], row.axes["n"]) for row in chosen] == [(2, 1), (1, 2)]


def test_best_never_looks_at_the_test_and_takes_no_nan() -> None:
    with pytest.raises(AssertionError, match="must not choose"):
        best(lr_rows(), choose_by="test/top1", over="lr")
    rows = [made_row("a", 0, {"lr": lr}, {"v": v}) for lr, v in ((1, math.nan), (2, 0.1), (3, 0.1))]
    assert [row.axes["lr"] for row in best(rows, choose_by="v", over="lr")] == [2]


def test_a_paired_difference_against_scipy() -> None:
    a, b = [0.71, 0.74, 0.70], [0.68, 0.72, 0.69]
    rows = [*rows_of("a", 10, a), *rows_of("b", 10, b), *rows_of("b", 10, [0.1], first_seed=9)]
    found = difference(rows, "a", "b", "test/top1")
    interval = stats.ttest_rel(a, b).confidence_interval()
    assert found.mean == pytest.approx(0.02, abs=1e-12)
    assert found.low == pytest.approx(interval.low, abs=1e-12)
    assert found.high == pytest.approx(interval.high, abs=1e-12)
    assert (found.num, found.paired, found.num_seeds) == (3, True, 3)


def test_axes_that_each_arm_chose_need_not_agree() -> None:
    rows = [
        made_row(arm, seed, {"n": n, "lr": lr}, {"v": base + seed + n})
        for arm, lr, base in (("a", 0.1, 2), ("b", 0.3, 1))
        for n in (1, 2)
        for seed in (0, 1, 2)
    ]
    assert not difference(rows, "a", "b", "v").paired
    found = difference(rows, "a", "b", "v", besides=["lr"])
    assert found == Difference(1.0, 1.0, 1.0, 6, True, 3)


def test_without_pairs_it_is_welchs() -> None:
    a, b = [0.71, 0.74, 0.70, 0.78], [0.68, 0.72, 0.61]
    rows = [*rows_of("a", 10, a), *rows_of("b", 10, b, first_seed=50)]
    found = difference(rows, "a", "b", "test/top1")
    test = stats.ttest_ind(a, b, equal_var=False)
    assert not found.paired
    assert (found.num, found.num_seeds) == (3, 3)
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b), abs=1e-12)
    assert found.low is not None
    assert found.high is not None
    se = math.sqrt(np.var(a, ddof=1) / 4 + np.var(b, ddof=1) / 3)
    half = stats.t.ppf(0.975, math.floor(test.df)) * se
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-12)
    assert half >= (test.confidence_interval().high - test.confidence_interval().low) / 2


def test_one_seed_has_no_interval() -> None:
    rows = [*rows_of("a", 1, [0.7]), *rows_of("b", 1, [0.6])]
    found = difference(rows, "a", "b", "test/top1")
    assert (found.low, found.high, found.num, found.is_clear) == (None, None, 1, False)
    other = [*rows_of("a", 1, [0.7, 0.8]), *rows_of("b", 1, [0.6], first_seed=3)]
    assert difference(other, "a", "b", "test/top1").low is None
    with pytest.raises(AssertionError, match="no rows of c"):
        difference(rows, "a", "c", "test/top1")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Difference(0.032, 0.011, 0.053, 3, True, 3), "above B (1.1 to 5.3, 3 seeds)"),
        (Difference(-0.032, -0.053, -0.011, 3, False, 3), "below B (1.1 to 5.3, 3 seeds)"),
        (
            Difference(0.004, -0.009, 0.017, 9, True, 3),
            "between A and B: 0.4 points (-0.9 to 1.7, 9 pairs, 3 seeds)",
        ),
        (Difference(0.1, None, None, 1, True, 1), "above B (one seed: no interval)"),
        (
            Difference(-0.0001, -0.01, 0.0099, 2, True, 2),
            "no evidence of a difference between A and B: 0.0 points (-1.0 to 1.0, 2 seeds)",
        ),
    ],
)
def test_differences_in_words(found: Difference, said: str) -> None:
    words = in_words(found, "A", "B")
    assert words.endswith(said)
    assert words.startswith("A is " if found.is_clear or found.low is None else "no evidence of a")


def test_other_units_in_words() -> None:
    found = Difference(12.34, 10.0, 15.0, 3, True, 3)
    assert in_words(found, "A", "B", unit="ms", scale=1, digits=0) == (
        "A is 12 ms above B (10 to 15, 3 seeds)"
    )

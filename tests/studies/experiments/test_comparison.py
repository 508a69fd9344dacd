"""vitrail/studies/experiments/comparison.py: by hand."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from tests.studies.made_rows import made_row
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.comparison import apart, at_ends, gaps, sentence, table, trend

VALUES = {  # arm -> size -> seeds
    "a": {100: (0.50, 0.52, 0.54), 1000: (0.70, 0.72, 0.71)},
    "b": {100: (0.60, 0.61, 0.62), 1000: (0.65, 0.66, 0.62)},
    "c": {100: (0.10, 0.11, 0.15), 1000: (0.20, 0.29, 0.23)},
}


def rows() -> list[Row]:
    return [
        made_row(arm, seed, {"pictures": size}, {"test/top1": value})
        for arm, sizes in VALUES.items()
        for size, seeds in sizes.items()
        for seed, value in enumerate(seeds)
    ]


def test_apart_pools_the_scatter_of_all_arms() -> None:
    here = [row for row in rows() if row.axes["pictures"] == 100]
    found = apart(here, "a", "b", "test/top1")
    groups = [VALUES[arm][100] for arm in "abc"]
    squares = sum(sum((x - sum(one) / 3) ** 2 for x in one) for one in groups)
    half = stats.t.ppf(0.975, 6) * math.sqrt(squares / 6 * (1 / 3 + 1 / 3))
    assert found.mean == pytest.approx(-0.09, abs=1e-12)
    assert found.low == pytest.approx(-0.09 - half, abs=1e-9)
    assert found.high == pytest.approx(-0.09 + half, abs=1e-9)


def test_apart_has_no_interval_with_one_seed() -> None:
    here = [row for row in rows() if row.axes["pictures"] == 100 and row.seed == 0]
    found = apart(here, "a", "b", "test/top1")
    assert found.mean == pytest.approx(-0.10)
    assert found.low is None
    assert not found.is_clear


def test_gaps_and_their_trend() -> None:
    found = gaps(rows(), "a", "b", "test/top1", "pictures")
    assert list(found) == [100, 1000]
    assert found[100].mean == pytest.approx(-0.09)
    assert found[1000].mean == pytest.approx(0.2 / 3)
    moved = trend(rows(), "a", "b", "test/top1", "pictures", (100, 1000))
    low, high = stats.t.interval(0.95, 2, *_mean_and_error([0.15, 0.15, 0.17]))
    assert moved.mean == pytest.approx(0.47 / 3)
    assert moved.low == pytest.approx(low, abs=1e-9)
    assert moved.high == pytest.approx(high, abs=1e-9)


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return sum(values) / len(values), float(stats.sem(values))


def test_words_of_both_ends() -> None:
    said = at_ends(rows(), "a", "b", "test/top1", "pictures", "images")
    assert said[0].startswith("With 100 images, a is 9.0 points below b")
    assert said[1].startswith("With 1,000 images, a is 6.7 points above b")
    assert said[2].startswith("From one end to the other the gap moves by 15.7 points towards a")
    other = at_ends(rows(), "b", "a", "test/top1", "pictures", "images")
    assert other[2] == said[2]  # towards a, and by as much, whoever is named first
    assert at_ends(rows(), "a", "nobody", "test/top1", "pictures", "images") == []


def test_table_has_sizes_in_order_and_dashes_for_nothing() -> None:
    some = [row for row in rows() if not (row.arm == "c" and row.axes["pictures"] == 100)]
    head, *body = table(list(reversed(some)), "test/top1", "pictures")
    assert head == ["", "100", "1,000"]
    assert [line[0] for line in body] == ["c", "b", "a"]
    assert body[0][1] == "-"
    assert body[2][1].startswith("0.520 (")


def test_sentence() -> None:
    assert sentence("no evidence") == "No evidence."
    assert sentence("1-D is above") == "1-D is above."

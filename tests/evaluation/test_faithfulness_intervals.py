"""The table of methods: means, intervals against SciPy, paired differences to chance."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vitrail.evaluation.faithfulness_intervals import csv_of, mean_with_interval, summary, table
from vitrail.explain.faithfulness import Curves, MethodCurves

NO_CURVES = Curves(np.array([0.0, 1]), np.ones(2), np.zeros(2))


def judged(
    method: str, seed: int, n: int = 23, shift: float = 0.0, masks: bool = True
) -> MethodCurves:
    rng = np.random.default_rng(seed)
    areas: NDArray[np.float64] = rng.random((3, n))
    hits = (rng.random(n) < 0.3 + shift).astype(float) if masks else None
    mass = areas[2] + shift if masks else None
    return MethodCurves(method, areas[0] - shift, areas[1] + shift, NO_CURVES, hits, mass)


def test_intervals_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=17)
    mean, ends = mean_with_interval(values)
    expected = stats.t.interval(0.95, 16, loc=values.mean(), scale=stats.sem(values))
    assert mean == pytest.approx(values.mean(), abs=1e-12)
    assert ends == pytest.approx(expected, abs=1e-9)
    assert mean_with_interval(values[:1]) == (values[0], None)


def test_differences_are_paired_and_signed_so_that_more_is_better() -> None:
    chance, good = judged("random", 1), judged("relevance", 2, shift=0.4)
    rows = {row.method: row for row in summary([good, chance])}
    assert list(rows) == ["relevance", "random"]
    figures = rows["relevance"].figures
    gain = chance.deletion - good.deletion  # a small deletion area is good
    assert figures["deletion"].better_than_random == pytest.approx(gain.mean())
    low, high = stats.t.interval(0.95, 22, loc=gain.mean(), scale=stats.sem(gain))
    assert figures["deletion"].better_interval == pytest.approx((low, high), abs=1e-9)
    assert figures["insertion"].better_than_random > 0
    assert all(figures[name].is_clear for name in ("deletion", "insertion", "mass"))
    own = rows["random"].figures["deletion"]
    assert (own.better_than_random, own.is_clear) == (0, False)


def test_hits_have_wilson_intervals() -> None:
    assert judged("a", 3).hits is not None
    row = summary(
        [MethodCurves("random", np.ones(9), np.ones(9), NO_CURVES, np.ones(9), np.ones(9))]
    )[0]
    expected = stats.binomtest(9, 9).proportion_ci(method="wilson")
    assert row.figures["hits"].interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_table_and_csv() -> None:
    rows = summary([judged("occlusion", 2, shift=0.4), judged("random", 1)])
    lines = table(rows)
    assert [line[0] for line in lines] == ["method", "occlusion", "random"]
    assert len(lines[0]) == 5
    assert lines[1][1].endswith(" *")
    assert not lines[2][1].endswith(" *")
    cells = list(csv.DictReader(io.StringIO(csv_of(rows))))
    assert len(cells) == 8
    assert float(cells[0]["mean"]) == rows[0].figures["deletion"].mean
    without = summary([judged("occlusion", 2, masks=False), judged("random", 1, masks=False)])
    assert list(without[0].figures) == ["deletion", "insertion"]


def test_one_image_has_no_interval() -> None:
    rows = summary(
        [judged("occlusion", 2, n=1, masks=False), judged("random", 1, n=1, masks=False)]
    )
    assert rows[0].figures["deletion"].interval is None
    assert "(" not in table(rows)[1][1]
    assert json.loads(json.dumps([row.to_json() for row in rows], allow_nan=False))
    assert next(csv.DictReader(io.StringIO(csv_of(rows))))["low"] == ""

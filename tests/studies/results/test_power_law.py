from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import chi2

from vitrail.studies.results.power_law import (
    PowerLaw,
    crossing,
    crossing_in_words,
    fit,
    fit_points,
    variances,
)
from vitrail.studies.results.summary import Point

SIZES = (500.0, 1000.0, 2000.0, 4000.0, 8000.0)


def curve(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return np.asarray(a * n**-b + c)


def law_of(a: float, b: float, c: float, *, variance: float = 1e-6, seed: int = 0) -> PowerLaw:
    errors = curve(np.array(SIZES), a, b, c).tolist()
    return fit(SIZES, errors, [variance] * 5, seed=seed)


def made_point(n: float, values: tuple[float, ...]) -> Point:
    return Point("a", n, float(np.mean(values)), None, None, values)


@pytest.mark.parametrize(
    ("a", "b", "c"), [(3, 0.35, 0.05), (5, 0.5, 0), (0.9, 0.05, 0), (20, 0.9, 0.3), (500, 1.7, 0.1)]
)
def test_a_curve_without_noise_comes_back(a: float, b: float, c: float) -> None:
    found = law_of(a, b, c)
    assert (found.a, found.b, found.c) == pytest.approx((a, b, c), rel=1e-6, abs=1e-9)
    assert found.at(300_000) == pytest.approx(float(curve(np.array(3e5), a, b, c)), rel=1e-6)
    low, high = found.interval(2000)
    assert low < found.at(2000) < high
    band = found.band([500, 2000])
    assert (band[0][1], band[1][1]) == pytest.approx((low, high))


def test_a_flat_and_a_rising_curve_are_a_constant() -> None:
    assert fit(SIZES, [0.3] * 5, [1e-4] * 5).at(10**6) == pytest.approx(0.3)
    rising = fit(SIZES, [0.1, 0.2, 0.3, 0.4, 0.5], [1e-4] * 5)
    assert (rising.a, rising.c) == pytest.approx((0.0, 0.3))
    assert any("exponent" in note for note in rising.notes)


def test_against_scipy_with_unequal_weights() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        sd = np.array([0.03, 0.02, 0.015, 0.01, 0.005])
        y = curve(np.array(SIZES), 4, 0.4, 0.05) + rng.normal(0, sd)
        found = fit(SIZES, y.tolist(), (sd**2).tolist(), replicates=2)
        start = (4, 0.4, 0.05)
        bounds = ((0, 0.01, 0), (np.inf, 2, 1))
        theirs, _ = curve_fit(
            curve,
            np.array(SIZES),
            y,
            p0=start,
            sigma=sd,
            bounds=bounds,
            x_scale=(4, 0.4, 0.05),
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
            max_nfev=100_000,
        )

        def squares(a: float, b: float, c: float, y: np.ndarray = y, sd: np.ndarray = sd) -> float:
            return float((((y - curve(np.array(SIZES), a, b, c)) / sd) ** 2).sum())

        ours = squares(found.a, found.b, found.c)
        assert ours <= squares(*theirs) * (1 + 1e-9)  # as good a minimum, or a better one
        assert found.at(2000) == pytest.approx(float(curve(np.array(2e3), *theirs)), abs=2e-5)


@pytest.mark.parametrize(
    ("sizes", "seeds", "sd", "judged"),
    [
        (SIZES, 3, 0.01, 1000),
        ((500, 1500, 5000, 15000), 3, 0.02, 2000),
        ((250, 1000, 4000), 3, 0.02, 1000),
    ],
)
def test_the_interval_holds_the_true_curve_as_often_as_it_says(
    sizes: tuple[float, ...], seeds: int, sd: float, judged: int
) -> None:
    rng = np.random.default_rng(7)
    where = [sizes[0], sizes[1], sizes[-1], 2 * sizes[-1]]
    truth = curve(np.array(where), 3, 0.35, 0.04)
    hits = []
    for trial in range(120):
        points = []
        for n in sizes:
            error = float(curve(np.array(n), 3, 0.35, 0.04))
            judge = rng.normal(0, np.sqrt(error * (1 - error) / judged))
            errors = error + judge + rng.normal(0, sd * np.sqrt(error), seeds)
            points.append(made_point(n, tuple((1 - errors).tolist())))
        tops = [1 - one.mean for one in points]
        found = fit(list(sizes), tops, variances(points, judged), seed=trial, replicates=250)
        hits.append(
            [low <= at <= high for at, low, high in zip(truth, *found.band(where), strict=True)]
        )
    coverage = np.mean(hits, axis=0)  # its own standard error is 0.02
    assert (coverage >= 0.87).all(), coverage
    assert (coverage <= 0.995).all(), coverage


def test_a_thousand_replicates_take_less_than_a_second_and_are_the_same_again() -> None:
    began = time.process_time()
    one = law_of(3, 0.35, 0.05, variance=1e-4)
    assert time.process_time() - began < 1
    assert one.replicates.shape == (1000, 3)
    assert (one.replicates == law_of(3, 0.35, 0.05, variance=1e-4).replicates).all()
    assert (one.replicates != law_of(3, 0.35, 0.05, variance=1e-4, seed=1).replicates).any()


def test_few_sizes_are_refused_and_what_is_not_settled_is_said() -> None:
    with pytest.raises(ValueError, match="3 sizes, got 2"):
        fit([500, 1000, 1000], [0.5, 0.4, 0.4], [1e-4] * 3)
    vague = fit([500, 1000, 2000, 4000], [0.5, 0.43, 0.37, 0.33], [1e-4] * 4)
    assert any("floor c is not settled" in note for note in vague.notes)
    sharp = fit(
        (10, 1e3, 1e4, 1e6), curve(np.array([10, 1e3, 1e4, 1e6]), 1, 0.5, 0.1).tolist(), [1e-8] * 4
    )
    assert sharp.notes == ()


def test_points_off_the_curve_widen_the_interval() -> None:
    errors = curve(np.array(SIZES), 3, 0.35, 0.05) + np.array([0.02, -0.02, 0.02, -0.02, 0.02])
    found = fit(SIZES, errors.tolist(), [1e-6] * 5)
    assert any("scatter" in note for note in found.notes)
    low, high = found.interval(2000)
    assert high - low > 0.01


@pytest.mark.parametrize("count", [4, 5])
def test_scatter_is_told_from_the_99_percent_point_of_chi_square_on(count: int) -> None:
    sizes = SIZES[:count]
    errors = curve(np.array(sizes), 3, 0.35, 0.05) + np.resize([0.02, -0.02], count)
    law = fit(sizes, errors.tolist(), [1e-6] * count)
    misfit = float(((errors - [law.at(n) for n in sizes]) ** 2).sum())
    for quantile, is_told in ((0.99 + 1e-4, True), (0.99 - 1e-4, False)):
        variance = misfit / float(chi2.ppf(quantile, count - 3))
        notes = fit(sizes, errors.tolist(), [variance] * count).notes
        assert any("scatter" in note for note in notes) == is_told


def test_variances_pool_the_seeds_and_add_the_images() -> None:
    points = [made_point(500, (0.5, 0.7)), made_point(1000, (0.8, 0.8)), made_point(2000, (1.0,))]
    own = (0.02, 0.0)
    pooled = 0.01
    expected = [
        (own[0] + pooled) / 2 / 2 + binomial(0.6, 100),
        (own[1] + pooled) / 2 / 2 + binomial(0.8, 100),
        pooled + binomial(1.0, 100),
    ]
    assert variances(points, 100) == pytest.approx(expected)


def binomial(share: float, n: int) -> float:
    shrunk = (share * n + 2) / (n + 4)
    return shrunk * (1 - shrunk) / n


def test_an_arm_of_single_seeds_says_so() -> None:
    tops = 1 - curve(np.array(SIZES), 3, 0.35, 0.05)
    points = [made_point(n, (float(top),)) for n, top in zip(SIZES, tops, strict=True)]
    found = fit_points(points, 10_000)
    assert found.b == pytest.approx(0.35, abs=1e-4)
    assert found.notes[-1].startswith("One seed a size")
    twice = fit_points(
        [made_point(float(one.x), (*one.values, *one.values)) for one in points], 10_000
    )
    assert not any("One seed" in note for note in twice.notes)


def test_what_doubling_brings() -> None:
    found = law_of(3, 0.35, 0.05)
    gain, low, high = found.gain(8000)
    assert gain == pytest.approx(3 * (8000**-0.35 - 16000**-0.35), rel=1e-5)
    assert low < gain < high


def test_curves_that_cross() -> None:
    vit, bit = law_of(9, 0.42, 0.0), law_of(2.6, 0.25, 0.0)
    truth = (9 / 2.6) ** (1 / 0.17)
    found = crossing(vit, bit, 500, 8000)
    assert found.n == pytest.approx(truth, rel=1e-3)
    assert found.low is not None
    assert found.high is not None
    assert found.low < truth < found.high
    assert found.high / found.low < 1.2
    assert (found.share, found.first_wins_above) == (1.0, True)
    turned = crossing(bit, vit, 500, 8000)
    assert turned.n == pytest.approx(truth, rel=1e-3)
    assert not turned.first_wins_above
    words = crossing_in_words(found, "ViT", "BiT")
    assert words.startswith("ViT overtakes BiT at about 1,490 images (1,4")
    assert " to 1,5" in words
    assert words.endswith("in 100 % of resampled curves)")
    assert crossing_in_words(turned, "BiT", "ViT").startswith("ViT overtakes BiT at about 1,490")


def test_curves_that_do_not_cross_or_hardly() -> None:
    vit, bit = law_of(9, 0.42, 0.0), law_of(2.6, 0.25, 0.0)
    above = crossing(vit, bit, 3000, 8000)
    assert (above.n, above.low, above.high, above.share) == (None, None, None, 0.0)
    assert "do not cross in this range (0 %" in crossing_in_words(above, "ViT", "BiT")
    same = law_of(9, 0.42, 0.0, variance=1e-4)
    unsure = crossing(same, law_of(9.05, 0.42, 0.0, variance=1e-4), 500, 8000)
    assert 0.05 < unsure.share < 0.95
    parallel = law_of(3, 0.35, 0.05), law_of(3, 0.35, 0.1)  # gaps that are equal everywhere
    assert crossing(*parallel, 500, 8000).share == 0

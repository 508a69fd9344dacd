"""How an error falls with the number of training images: error(n) = a n^-b + c.

Source: Hestness et al., Deep learning scaling is predictable, empirically (arXiv 1712.00409),
section 3; with the floor c as in Rosenfeld et al. (arXiv 1909.12673), equation 1. Fitted by least
squares weighted with 1 / variance, under a >= 0, 0.01 <= b <= 2 and c >= 0: for each b of a grid a
and c follow in closed form, and the grid is made finer around the best b. Intervals are those of a
parametric bootstrap around the fitted curve (Efron and Tibshirani 1993, section 6.5), whose
replicates are functions of (seed, replicate) alone.

Points are taken to err independently, although the same images judge every size: where these are
few, the level of a whole curve is less certain than its interval says, and a comparison of curves
judged on the same images more certain. The curve is an assumption. Inside the measured sizes it
smooths; beyond them it is a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrail.evaluation.metrics.bootstrap import percentile_interval, uniform
from vitrail.studies.results.summary import Point

Values = NDArray[np.float64]

MIN_SIZES = 3
REPLICATES = 1000
LEAST, MOST = 0.01, 2.0  # of b
_GRID, _FINER, _ROUNDS = 200, 13, 8
FEWEST = 20
_TINY = 1e-12  # variance; weights stay finite where points carry no error
_CROSSING_GRID = 400


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """A fitted curve. sizes, errors, variances: the points; replicates: (R, 3) of a, b, c; notes:
    sentences on what the points do not settle.
    """

    a: float
    b: float
    c: float
    sizes: tuple[float, ...]
    errors: tuple[float, ...]
    variances: tuple[float, ...]
    replicates: Values
    notes: tuple[str, ...] = ()

    def at(self, n: float) -> float:
        """The error with n training images."""
        return float(self.a * n**-self.b + self.c)

    def interval(self, n: float) -> tuple[float, float]:
        """The 95 % interval of the curve (not of a single run) at n."""
        return percentile_interval(self._shares([n])[:, 0])

    def scatter(self, n: ArrayLike) -> Values:
        """The error of each replicate (R,) at each of `n` (N,): (R, N)."""
        a, b, c = (column[:, None] for column in self.replicates.T)
        return np.asarray(a * np.asarray(n, dtype=np.float64) ** -b + c)

    def _shares(self, n: ArrayLike) -> Values:
        """As `scatter`, where an error can be: 0 to 1."""
        return np.clip(self.scatter(n), 0.0, 1.0)

    def band(self, n: Sequence[float]) -> tuple[list[float], list[float]]:
        """The ends of the 95 % interval at each of `n`."""
        low, high = np.quantile(self._shares(n), [0.025, 0.975], axis=0)
        return low.tolist(), high.tolist()

    def gain(self, n: float, *, factor: float = 2.0) -> tuple[float, float, float]:
        """By how much the error falls from n to `factor` * n: (estimate, low, high)."""
        drawn = self._shares([n, factor * n])
        low, high = percentile_interval(drawn[:, 0] - drawn[:, 1])
        return self.at(n) - self.at(factor * n), low, high


@dataclass(frozen=True)
class Crossing:
    """Where two curves cross in a range of sizes.

    n: None where the fitted curves do not. low, high: the middle 95 % of the replicates that cross
    the same way, None where fewer than FEWEST do. share: of the replicates, how many do.
    first_wins_above: whether the first has the lower error beyond it.
    """

    n: float | None
    low: float | None
    high: float | None
    share: float
    first_wins_above: bool


def fit_points(points: Sequence[Point], judged: int, *, seed: int = 0) -> PowerLaw:
    """The curve of one arm. points: shares of right answers over the number of training images;
    judged: the images behind each share. Raises ValueError for fewer than 3 sizes.
    """
    sizes = [float(one.x) for one in points]
    errors = [1 - one.mean for one in points]
    law = fit(sizes, errors, variances(points, judged), seed=seed)
    if all(len(one.values) < 2 for one in points):
        alone = "One seed a size: the interval leaves out what another seed would change."
        return replace(law, notes=(*law.notes, alone))
    return law


def variances(points: Sequence[Point], judged: int) -> list[float]:
    """The variance of each mean: over seeds, plus binomial over the images judged.

    Few seeds tell a variance badly, so each size is given the middle of its own and of the mean of
    all. The binomial part counts two more right and wrong answers (Agresti and Coull, The American
    Statistician 52, 1998), so that a size without a mistake is not taken for certain.
    """
    own = [float(np.var(one.values, ddof=1)) if len(one.values) > 1 else None for one in points]
    degrees = [len(one.values) - 1 for one in points]
    total = sum(d * v for d, v in zip(degrees, own, strict=True) if v is not None)
    pooled = total / max(sum(degrees), 1)
    found = []
    for one, variance in zip(points, own, strict=True):
        seeds = pooled if variance is None else (variance + pooled) / 2
        share = (min(max(one.mean, 0.0), 1.0) * judged + 2) / (judged + 4)
        found.append(seeds / len(one.values) + share * (1 - share) / judged)
    return found


def fit(
    sizes: Sequence[float],
    errors: Sequence[float],
    variances: Sequence[float],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> PowerLaw:
    """The curve through (size, error), each with the variance of its error.

    Raises ValueError for fewer than 3 sizes.
    """
    from scipy.special import chdtri

    if len(set(sizes)) < MIN_SIZES:
        raise ValueError(f"a power law needs {MIN_SIZES} sizes, got {len(set(sizes))}")
    n = np.array(sizes, dtype=np.float64)
    y = np.array(errors, dtype=np.float64)
    variance = np.maximum(np.array(variances, dtype=np.float64), _TINY)
    assert (n > 0).all(), n
    scale = float(np.exp(np.log(n).mean()))  # sizes near 1 keep the sums well conditioned
    (best,) = _solve(n / scale, y[None], 1 / variance)
    fitted = best[0] * (n / scale) ** -best[1] + best[2]
    notes = []
    degrees = len(n) - 3
    misfit = float(((y - fitted) ** 2 / variance).sum())
    if degrees > 0 and misfit > chdtri(degrees, 0.01):
        variance = variance * misfit / degrees
        notes.append(
            "The points scatter about the curve by more than their own errors; the interval is "
            "widened to match."
        )
    noise = _normal(replicates, len(n), seed) * np.sqrt(variance)
    drawn = _solve(n / scale, fitted + noise, 1 / variance)
    notes += _unsettled(drawn, y)
    back = np.array([scale ** drawn[:, 1], np.ones(len(drawn)), np.ones(len(drawn))]).T
    return PowerLaw(
        float(best[0] * scale ** best[1]),
        float(best[1]),
        float(best[2]),
        tuple(map(float, sizes)),
        tuple(map(float, errors)),
        tuple(map(float, variance)),
        drawn * back,
        tuple(notes),
    )


def crossing(first: PowerLaw, second: PowerLaw, low: float, high: float) -> Crossing:
    """Where the curves cross between `low` and `high` images, the last place if there are two.

    Replicate r of one meets replicate r + 1 of the other, so that curves fitted with the same seed
    share no noise.
    """
    assert 0 < low < high, (low, high)
    grid = np.geomspace(low, high, _CROSSING_GRID)
    gap = np.array([[first.at(n) - second.at(n) for n in grid]])  # (1, N), below 0: first is better
    wins = bool(gap[0, -1] < 0)
    (at,) = _last_crossing(grid, gap, wins)
    num = min(len(first.replicates), len(second.replicates))
    gaps = first.scatter(grid)[:num] - np.roll(second.scatter(grid)[:num], -1, axis=0)
    places = _last_crossing(grid, gaps, wins)
    found = places[np.isfinite(places)]
    ends = percentile_interval(found) if len(found) >= FEWEST else None
    return Crossing(
        n=None if math.isnan(at) else float(at),
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        share=len(found) / num,
        first_wins_above=wins,
    )


def crossing_in_words(found: Crossing, first: str, second: str, unit: str = "images") -> str:
    """`ViT overtakes BiT at about 12,000 images (8,100 to 31,000; 94 % of resampled curves)`."""
    winner, loser = (first, second) if found.first_wins_above else (second, first)
    support = f"{found.share:.0%}".replace("%", " %") + " of resampled curves"
    if found.n is None:
        return f"{first} and {second} do not cross in this range ({support} do)"
    ends, digits = "", 2
    if found.low is not None and found.high is not None:
        digits = 2 if found.high > 1.2 * found.low else 3
        ends = f"{_rounded(found.low, digits)} to {_rounded(found.high, digits)}; "
    at = _rounded(found.n, digits)
    return f"{winner} overtakes {loser} at about {at} {unit} ({ends}in {support})"


def _solve(n: Values, y: Values, weights: Values) -> Values:
    """n, weights: (K,); y: (R, K). The best (a, b, c) of each row: (R, 3)."""
    grid = np.linspace(LEAST, MOST, _GRID)
    step = grid[1] - grid[0]
    b = np.broadcast_to(grid, (len(y), _GRID))
    every = np.arange(len(y))
    for _ in range(_ROUNDS):
        a, c, loss = _given_exponent(n, y, weights, b)
        place = loss.argmin(axis=1)
        best = np.stack([one[every, place] for one in (a, b, c)], axis=1)  # (R, 3)
        finer = best[:, 1:2] + np.linspace(-step, step, _FINER)  # (R, 13)
        b, step = np.clip(finer, LEAST, MOST), 2 * step / (_FINER - 1)
    return best


def _given_exponent(
    n: Values, y: Values, weights: Values, b: Values
) -> tuple[Values, Values, Values]:
    """The best a, c >= 0 and their weighted squares for exponents b (R, G): three of (R, G).

    Two variables: where the free solution is negative, the best one lies on an axis.
    """
    f = np.exp(-b[..., None] * np.log(n))  # (R, G, K)
    wf = f * weights
    w, ff, f1 = weights.sum(), (wf * f).sum(-1), wf.sum(-1)
    fy, y1 = np.einsum("rgk,rk->rg", wf, y), (y @ weights)[:, None]
    determinant = ff * w - f1 * f1  # > 0 because sizes differ and b > 0
    a, c = (fy * w - f1 * y1) / determinant, (ff * y1 - f1 * fy) / determinant
    free = (a >= 0) & (c >= 0)
    only_a, only_c = np.maximum(fy / ff, 0), np.broadcast_to(np.maximum(y1 / w, 0), a.shape)
    # What each axis explains; the squares fall by as much.
    on_a = 2 * only_a * fy - only_a**2 * ff >= 2 * only_c * y1 - only_c**2 * w
    a = np.where(free, a, np.where(on_a, only_a, 0))
    c = np.where(free, c, np.where(on_a, 0, only_c))
    rest = a[..., None] * f + c[..., None] - y[:, None, :]
    return a, c, (weights * rest**2).sum(-1)


def _normal(replicates: int, num: int, seed: int) -> Values:
    """Standard normal numbers (replicates, num) by Box and Muller."""
    u = np.stack([uniform(2 * num, replicate, seed=seed) for replicate in range(replicates)])
    normal: Values = np.sqrt(-2 * np.log1p(-u[:, :num])) * np.cos(2 * np.pi * u[:, num:])
    return normal


def _unsettled(drawn: Values, errors: Values) -> list[str]:
    """Sentences on the parameters that the replicates do not agree on."""
    notes = []
    low, high = percentile_interval(drawn[:, 2])
    if high - low > 0.5 * float(errors.min()):
        notes.append(
            f"The floor c is not settled by these sizes: {low:.3f} to {high:.3f}; do not read the "
            "curve far beyond the largest."
        )
    low, high = percentile_interval(drawn[:, 1])
    if high > 3 * low or high >= MOST - 1e-6:
        notes.append(f"The exponent b is not settled by these sizes: {low:.2f} to {high:.2f}.")
    return notes


def _last_crossing(grid: Values, gaps: Values, wins: bool) -> Values:
    """gaps: (R, N) over `grid`. Where each last turns below 0 (`wins`), or else above, between two
    places of the grid by their logarithms; NaN where it does not.
    """
    signed = gaps if wins else -gaps
    turns = (signed[:, :-1] >= 0) & (signed[:, 1:] < 0)  # (R, N - 1)
    last = turns.shape[1] - 1 - turns[:, ::-1].argmax(axis=1)
    every = np.arange(len(gaps))
    crosses = turns.any(axis=1)
    before = np.where(crosses, signed[every, last], 0.0)
    after = np.where(crosses, signed[every, last + 1], -1.0)
    ends, share = np.log(grid), before / (before - after)
    place = np.exp(ends[last] + share * (ends[last + 1] - ends[last]))
    return np.where(crosses, place, np.nan)


def _rounded(n: float, digits: int) -> str:
    """12345 to two digits: 12,000."""
    unit = 10 ** max(0, math.floor(math.log10(n)) + 1 - digits)
    return f"{round(n / unit) * unit:,}"

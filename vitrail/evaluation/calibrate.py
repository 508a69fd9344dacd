"""Temperature scaling: one number that divides the logits, fitted on validation images.

Guo et al., On calibration of modern neural networks (arXiv 1706.04599, section 4.2): the T that
minimises the NLL of softmax(z / T); for several labels an image of sigmoid(z / T). The order of
the classes, so every accuracy, stays as it is. In beta = 1 / T the NLL is convex, and a minimum
exists unless it falls for ever: then the fit says why there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import DataError
from vitrail.evaluation.record import Evaluation
from vitrail.spelling import count

MIN_T, MAX_T = 1e-3, 1e3  # what model.json accepts
CHUNK = 2**22  # logits in float64 at a time
STEPS, PRECISION = 100, 1e-12
FEW = 100  # images below which a note says that the fit is rough

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """A temperature and what it changes on the images it was fitted on: NLL and ECE before and
    after.
    """

    split: str
    n: int
    before: float
    temperature: float
    nll: tuple[float, float]
    ece: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """The object "calibration" of metrics.json."""
        return {
            "fitted_on": self.split,
            "n": self.n,
            "temperature_before": self.before,
            "temperature": self.temperature,
            "nll_before": self.nll[0],
            "nll": self.nll[1],
            "ece_before": self.ece[0],
            "ece": self.ece[1],
        }


def calibration_of(before: Evaluation, after: Evaluation, split: str) -> Calibration:
    """The record of a fit, from the fitted images at the old and at the new temperature."""
    return Calibration(
        split,
        before.n,
        before.temperature,
        after.temperature,
        (before.nll, after.nll),
        (before.ece, after.ece),
    )


def fit_temperature(logits: Logits, labels: NDArray[Any]) -> float:
    """The T that minimises the NLL of `logits` (n, K) / T; labels (n,), or (n, K) of 0 and 1.

    Raises DataError VIT-363 where no T does: without wrong answers, or with scores worse than
    chance.
    """
    at_zero = _slope(logits, labels, 0.0)[0]
    at_infinity = _slope_at_infinity(logits, labels)
    if at_zero >= 0:
        raise _refused(
            len(logits), "their scores are no better than chance, so the best is to know nothing"
        )
    if at_infinity <= 0:
        raise _refused(len(logits), "all are right, so that no score could be too high")
    beta = _root(logits, labels)
    if not MIN_T <= 1 / beta <= MAX_T:
        raise _refused(len(logits), f"the best would be {1 / beta:.3g}, outside {MIN_T} to {MAX_T}")
    return 1 / beta


def _refused(n: int, why: str) -> DataError:
    return DataError(
        "VIT-363",
        f"no temperature can be fitted on {count(n, 'validation image')}: {why}.",
        hint="Hold out more images for validation, or measure without --calibrate.",
    )


def _root(logits: Logits, labels: NDArray[Any]) -> float:
    """beta > 0 where the slope is 0: Newton's method, kept between two ends by halving."""
    low, high = 0.0, 1.0
    while _slope(logits, labels, high)[0] < 0:
        low, high = high, 2 * high
    beta = high
    for _ in range(STEPS):
        slope, curvature = _slope(logits, labels, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        newton = beta - slope / curvature if curvature > 0 else -1.0
        if abs(newton - beta) <= PRECISION * beta:
            return newton
        beta = newton if low < newton < high else (low + high) / 2
    return beta


def _slope(logits: Logits, labels: NDArray[Any], beta: float) -> tuple[float, float]:
    """First and second derivative of the summed NLL by beta.

    softmax: sum of E_p[z] - z_label and of Var_p[z]; sigmoid: of z (p - y) and of z^2 p (1 - p).
    """
    first = second = 0.0
    for z, y in _chunks(logits, labels):
        if y.ndim == 2:
            p = np.exp(-np.logaddexp(0, -beta * z))
            first += float((z * (p - y)).sum())
            second += float((z * z * p * (1 - p)).sum())
            continue
        z = z - np.take_along_axis(z, y[:, None], axis=1)  # E[z] - z_label without cancellation
        shifted = beta * (z - z.max(axis=1, keepdims=True))
        p = np.exp(shifted)
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * z).sum(axis=1)
        first += float(mean.sum())
        second += float((p * (z - mean[:, None]) ** 2).sum())
    return first, second


def _slope_at_infinity(logits: Logits, labels: NDArray[Any]) -> float:
    """The slope as beta grows without end: 0 where every answer is right."""
    total = 0.0
    for z, y in _chunks(logits, labels):
        if y.ndim == 2:
            total += float((z * ((z > 0) - y)).sum())
        else:
            own = np.take_along_axis(z, y[:, None], axis=1)[:, 0]
            total += float((z.max(axis=1) - own).sum())
    return total


def _chunks(
    logits: Logits, labels: NDArray[Any]
) -> Iterator[tuple[NDArray[np.float64], NDArray[Any]]]:
    rows = max(1, CHUNK // max(logits.shape[1], 1))
    for first in range(0, len(logits), rows):
        part = slice(first, first + rows)
        yield logits[part].astype(np.float64), labels[part]

"""Closed-form leave-one-out predictions are those of fits without the image."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from vitrail.evaluation.labels import loo_ridge as module
from vitrail.evaluation.labels.loo_ridge import gradients, left_out, left_out_scores


@pytest.mark.parametrize(("n", "size"), [(23, 7), (17, 31)])
def test_scores_are_those_of_fits_without_the_image(
    n: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 5)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, size)).astype(np.float32)
    targets = 2.0 * np.eye(3)[rng.integers(3, size=n)] - 1
    x = features.astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + module.EPS)
    for l2 in (0.37, 41.0):
        scores, chosen = left_out_scores(features, targets, [l2])
        assert chosen == l2
        for i in range(n):
            others = np.arange(n) != i
            fit = Ridge(alpha=l2).fit(x[others], targets[others])
            assert scores[i] == pytest.approx(fit.predict(x[i : i + 1])[0], abs=1e-9)


def test_l2_and_slope_are_those_of_least_error() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(4, size=151)
    centres = np.eye(4)[labels] @ rng.normal(size=(4, 29))
    features = (centres + 1.5 * rng.normal(size=(151, 29))).astype(np.float32)
    found = left_out(features, labels, 4)
    targets = 2.0 * np.eye(4)[labels] - 1
    errors = {}
    for l2 in module.L2S:
        scores, _ = left_out_scores(features, targets, [l2 * 151])
        errors[l2 * 151] = ((scores - targets) ** 2).mean()
    assert found.l2 == min(errors, key=lambda key: errors[key])
    p = found.probabilities
    assert p.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert 0.4 < (p.argmax(axis=1) == labels).mean() < 0.98
    right = np.log(p[np.arange(151), labels]).mean()
    sharper = p**1.3 / (p**1.3).sum(axis=1, keepdims=True)
    flatter = p**0.7 / (p**0.7).sum(axis=1, keepdims=True)
    for other in (sharper, flatter):
        assert np.log(other[np.arange(151), labels]).mean() < right


@pytest.mark.parametrize("shape", [(8, 8, 1), (29, 31, 3), (5, 7, 1)])
def test_gradients_tell_direction_and_not_contrast(shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    ramp = np.linspace(20, 90, width).astype(np.uint8)
    across = np.broadcast_to(ramp[None, :, None], shape)
    stack = np.stack([across, 2 * across, across[:, ::-1]])
    found = gradients(np.ascontiguousarray(stack))
    bins = found[:, : module.BINS * 16] ** 2  # of the 4 x 4 cells
    assert np.abs(bins[0] - bins[1]).max() < 0.02
    halves = bins.reshape(3, module.BINS, 16).sum(axis=2)
    assert halves[0].argmax() == 0
    assert halves[2].argmax() == module.BINS // 2
    side = min(module.COLOURS, height, width)
    assert found.shape[1] == module.BINS * (16 + 49) + channels * side**2
    assert np.isfinite(found).all()

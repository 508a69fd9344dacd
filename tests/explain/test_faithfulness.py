"""Deletion, insertion and the pointing game on a model whose reasons are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.explain.small_models import bit, picture, vit
from tests.models.check_model import random_images
from vitrail.errors import UsageError
from vitrail.explain.faithfulness import (
    by_cell,
    curves,
    judge,
    mass_inside,
    points_at,
    ranking,
)

CELL = (1, 2)


class Reader(torch.nn.Module):
    """Its logit is the brightness of one cell; looks like a ViT of 2 x 3 patches to the judges."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = vit("gap", channels=1)
        self.config = self.inner.config
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, 0, 5:10, 14:21].mean(dim=(1, 2)) * self.weight
        rest = torch.zeros(len(images), 4)
        return torch.cat([rest[:, :1], 6 * value[:, None] - 3, rest[:, 1:] - 99], dim=1)


def test_curves_by_hand() -> None:
    """The one cell that matters, first or last: the probability falls at once, or at the end."""
    model, images = Reader(), torch.ones(1, 1, 10, 21)
    high, low = 1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))
    grid = np.zeros((2, 3))
    grid[CELL] = 1
    good = curves(model, images, grid, 1)  # type: ignore[arg-type]
    assert np.allclose(good.shares, np.arange(7) / 6)
    assert np.allclose(good.deletion, [high] + [low] * 6, atol=1e-6)
    assert np.allclose(good.insertion, [low] + [high] * 6, atol=1e-6)
    assert good.deletion_area == pytest.approx((high + low) / 12 + 5 / 6 * low, abs=1e-6)
    assert good.insertion_area == pytest.approx((high + low) / 12 + 5 / 6 * high, abs=1e-6)
    bad = curves(model, images, -grid, 1)  # type: ignore[arg-type]
    assert np.allclose(bad.deletion, [high] * 6 + [low], atol=1e-6)
    assert bad.deletion_area > good.deletion_area
    assert bad.insertion_area < good.insertion_area


def test_ends_of_every_curve_are_the_model_itself() -> None:
    """Nothing covered, and everything; also for a BiT, whose cells are squares of pixels."""
    for model in (vit("cls"), bit()):
        images = picture(model)
        with torch.no_grad():
            p = model(torch.cat([images, torch.zeros_like(images)])).softmax(dim=1)[:, 2]
        found = curves(model, images, np.random.default_rng(0).random((5, 4)), 2)
        assert found.deletion[[0, -1]] == pytest.approx(p.tolist(), abs=1e-9)
        assert found.insertion[[0, -1]] == pytest.approx(p.flip(0).tolist(), abs=1e-9)
        assert len(found.shares) <= 51


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 99), st.booleans())
def test_a_ranking_is_a_permutation_from_the_largest(n: int, seed: int, tied: bool) -> None:
    values = np.random.default_rng(seed).integers(0, 3 if tied else 10**9, n).astype(float)
    order = ranking(values, seed)
    assert sorted(order) == list(range(n))
    assert (np.diff(values[order]) <= 0).all()


def test_ties_are_broken_by_chance() -> None:
    """A constant map ranks as random does: every cell comes first about equally often."""
    first = [int(ranking(np.zeros(4), seed)[0]) for seed in range(400)]
    assert np.bincount(first, minlength=4).min() >= 70


def test_pointing_by_hand() -> None:
    mask = np.zeros((10, 21), bool)
    mask[5:10, 14:21] = True
    grid = np.zeros((2, 3))
    grid[CELL] = 0.1
    assert points_at(grid, mask)
    assert not points_at(-grid, mask)
    assert mass_inside(by_cell(grid, (2, 3)).repeat(5, 0).repeat(7, 1), mask) == pytest.approx(1)
    assert mass_inside(np.zeros((10, 21)), mask) == pytest.approx(mask.mean())
    assert mass_inside(np.ones((10, 21)), mask) == pytest.approx(mask.mean())


def test_judging_all_methods() -> None:
    model = vit("cls", torch.float32)
    images = random_images(model.config, 3).float()
    masks = np.zeros((3, 10, 21), bool)
    masks[:, :5, :7] = True
    found = judge(model, images, masks=masks, methods=["rollout", "random", "occlusion"])
    assert [one.method for one in found] == ["rollout", "occlusion", "random"]
    for one in found:
        assert one.deletion.shape == one.insertion.shape == (3,)
        assert one.hits is not None
        assert set(one.hits) <= {0.0, 1.0}
        mean = float(np.trapezoid(one.curves.deletion, one.curves.shares))
        assert mean == pytest.approx(float(one.deletion.mean()))
    without = judge(model, images, methods=["rollout"])
    assert without[0].hits is None
    assert np.array_equal(without[0].deletion, found[0].deletion)
    assert [one.method for one in judge(bit(), picture(bit()))] == [
        "gradcam",
        "integrated-gradients",
        "occlusion",
        "random",
    ]


def test_what_cannot_be_judged() -> None:
    headless = vit("cls", num_classes=0)
    with pytest.raises(UsageError, match="VIT-272"):
        judge(headless, picture(headless))
    model = vit("cls")
    with pytest.raises(UsageError, match="VIT-276"):
        judge(model, picture(model), methods=["rollout"], targets=[9])
    with pytest.raises(UsageError, match="VIT-270"):
        judge(model, picture(model), methods=["roll"])

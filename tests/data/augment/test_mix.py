"""Mixup and CutMix: the Beta draw against SciPy, convexity, targets that tell what is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import betaincinv

from vitrail.config import AugmentConfig
from vitrail.data.augment.mix import beta_quantile, mix, mix_numbers


def batch(num: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Image b is b everywhere; targets one-hot."""
    images = torch.arange(num, dtype=torch.float32).view(-1, 1, 1, 1).expand(num, 3, 13, 17)
    return images.clone(), torch.eye(num)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.8, 1.0, 3.0, 50.0])
def test_beta_quantile_is_scipys(alpha: float) -> None:
    for probability in (0.001, 0.1, 0.37, 0.5, 0.63, 0.99):
        expected = betaincinv(alpha, alpha, probability)
        assert beta_quantile(probability, alpha) == pytest.approx(expected, abs=1e-9)


def test_mixup_takes_the_larger_share_and_rolls_by_one() -> None:
    images, targets = batch()
    for step in range(7):
        mixed, soft = mix(images, targets, mix_numbers(0, step), AugmentConfig(mixup=0.8))
        share = float(soft[2, 2])
        assert 0.5 <= share <= 1
        assert float(soft[2, 1]) == pytest.approx(1 - share, abs=1e-6)
        assert float(mixed[2, 0, 0, 0]) == pytest.approx(2 * share + 1 - share, abs=1e-5)
        assert float(mixed[0, 0, 0, 0]) == pytest.approx(4 * (1 - share), abs=1e-5)


def test_cutmix_weights_targets_by_the_area_that_is_shown() -> None:
    images, targets = batch()
    shares = []
    for step in range(41):
        mixed, soft = mix(images, targets, mix_numbers(0, step), AugmentConfig(cutmix=1.0))
        own = (mixed[3, 0] == 3).float()
        assert bool(((mixed[3] == 3) | (mixed[3] == 2)).all())
        assert float(soft[3, 3]) == pytest.approx(float(own.mean()), abs=1e-6)
        rows, cols = (own == 0).any(1).sum(), (own == 0).any(0).sum()
        assert rows * cols == (own == 0).sum()  # one box
        shares.append(float(own.mean()))
    assert min(shares) < 0.3
    assert max(shares) > 0.9


def test_both_take_turns() -> None:
    images, targets = batch()
    config = AugmentConfig(mixup=0.8, cutmix=1.0)
    cut = [
        bool((mix(images, targets, mix_numbers(0, step), config)[0] % 1 == 0).all())
        for step in range(201)
    ]
    assert abs(np.mean(cut) - 0.5) < 5 * 0.5 / 201**0.5


def test_targets_keep_their_sum_and_the_draw_depends_on_seed_and_step_only() -> None:
    images, targets = batch()
    config = AugmentConfig(mixup=0.2, cutmix=1.0)
    first = mix(images, targets, mix_numbers(3, 5), config)
    again = mix(images, targets, mix_numbers(3, 5), config)
    assert torch.equal(first[0], again[0])
    torch.testing.assert_close(first[1].sum(dim=1), torch.ones(5))
    assert (mix_numbers(3, 5) != mix_numbers(3, 6)).any()
    assert (mix_numbers(3, 5) != mix_numbers(4, 5)).any()


def test_nothing_is_mixed_when_both_are_off() -> None:
    images, targets = batch()
    mixed, same = mix(images, targets, mix_numbers(0, 0), AugmentConfig())
    assert mixed is images
    assert same is targets


def test_one_image_is_mixed_with_itself() -> None:
    images, targets = batch(1)
    mixed, soft = mix(images, targets, mix_numbers(0, 1), AugmentConfig(mixup=1.0, cutmix=1.0))
    torch.testing.assert_close(mixed, images)
    torch.testing.assert_close(soft, targets)

"""Mixup and CutMix: a batch mixed with itself, images and targets alike, after normalisation.

- Mixup (Zhang et al., arXiv 1710.09412) as big_vision does it: one a ~ Beta(alpha, alpha) a batch,
  a := max(a, 1 - a), a * batch + (1 - a) * batch rolled by one.
- CutMix (Yun et al., arXiv 1905.04899): a box of share 1 - a of the area, centred anywhere and cut
  at the edges, shows the rolled batch; the targets are weighted by the share that is really shown.
With both given each batch takes one of them, with probability 1/2 (DeiT). a is the same for the
whole batch in all of these sources. The draw is a function of (seed, step).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.config import AugmentConfig
from vitrail.keyed_random import uniforms

NUM_NUMBERS = 4  # switch, a, centre (y, x) of the box


def mix_numbers(seed: int, step: int) -> NDArray[np.float64]:
    """The uniforms (NUM_NUMBERS,) of one step."""
    table = uniforms(seed, "mix", 0, np.array([step], dtype=np.int64), NUM_NUMBERS)
    return table.ravel()


def mix(
    images: Tensor, targets: Tensor, numbers: NDArray[np.float64], config: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """Mixed `images` (B, C, H, W) float and `targets` (B, K) float, drawn with `mix_numbers`."""
    switch, quantile, y, x = numbers.tolist()
    if config.mixup == 0 and config.cutmix == 0:
        return images, targets
    if config.cutmix > 0 and (config.mixup == 0 or switch < 0.5):
        images, share = _paste(images, beta_quantile(quantile, config.cutmix), (y, x))
    else:
        share = beta_quantile(quantile, config.mixup)
        share = max(share, 1 - share)
        images = torch.lerp(images.roll(1, 0), images, share)
    return images, torch.lerp(targets.roll(1, 0), targets, share)


def _paste(images: Tensor, share: float, centre: tuple[float, float]) -> tuple[Tensor, float]:
    """`images` with a box of the rolled batch, and the share of the area that is their own."""
    height, width = images.shape[2:]
    side = math.sqrt(1 - share)
    rows, cols = (
        slice(max(0, middle - length // 2), min(num, middle + length - length // 2))
        for middle, length, num in (
            (int(centre[0] * height), int(height * side), height),
            (int(centre[1] * width), int(width * side), width),
        )
    )
    mixed = images.clone()
    mixed[:, :, rows, cols] = images.roll(1, 0)[:, :, rows, cols]
    pasted = (rows.stop - rows.start) * (cols.stop - cols.start)
    return mixed, 1 - pasted / (height * width)


def beta_quantile(probability: float, alpha: float) -> float:
    """The x at which the distribution function of Beta(alpha, alpha) is `probability`.

    One uniform number becomes one Beta number: no rejection, no stream that could differ between
    versions of a library. Bisection of the regularised incomplete beta function to 2**-48.
    """
    if probability > 0.5:
        return 1 - beta_quantile(1 - probability, alpha)
    low, high = 0.0, 0.5
    for _ in range(48):
        middle = (low + high) / 2
        if _beta_cdf(middle, alpha) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(x: float, a: float) -> float:
    """I_x(a, a) for 0 < x <= 1/2: the continued fraction DLMF 8.17.22, evaluated by Lentz."""
    front = math.exp(math.lgamma(2 * a) - 2 * math.lgamma(a) + a * math.log(x * (1 - x))) / a
    value = c = 1.0
    d = 0.0
    for term in range(1, 1000):
        m = term // 2
        if term % 2 == 0:
            part = m * (a - m) * x / ((a + term - 1) * (a + term))
        else:
            part = -(a + m) * (2 * a + m) * x / ((a + term - 1) * (a + term))
        d = 1 / (1 + part * d)
        c = 1 + part / c
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front / value

"""The keyed bijection that orders data sets too large to be sorted (acceptance A11)."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.data.loading.order import SORTED, batch_indices, shown
from vitrail.keyed_random import cipher, permutation

GOLDEN = [4, 1, 5, 6, 3, 0, 2]
SIGMAS = 4.0
N, KEYS = 10_007, 200


def _all(n: int, seed: int = 0, epoch: int = 0) -> NDArray[np.int64]:
    return cipher(seed, "order", epoch, n, np.arange(n, dtype=np.int64))


def test_it_is_a_bijection_for_every_small_size() -> None:
    for n in range(1, 2001):
        assert (np.bincount(_all(n, seed=n), minlength=n) == 1).all(), n


@pytest.mark.parametrize("power", range(12, 23))
@pytest.mark.parametrize("more", [-1, 1])
def test_it_is_a_bijection_for_large_sizes(power: int, more: int) -> None:
    n = min(2**22, 2**power + more)
    assert (np.bincount(_all(n, seed=power), minlength=n) == 1).all()


def test_the_orders_of_old_runs_stay() -> None:
    """Whoever changes the bijection breaks every large run that is to be resumed."""
    assert _all(7).tolist() == GOLDEN
    places = np.arange(SORTED - 2, SORTED - 1, dtype=np.int64)
    assert shown(3, 1, SORTED - 1, places).tolist() == permutation(3, 1, SORTED - 1)[-1:].tolist()
    places = np.arange(3, dtype=np.int64)
    assert shown(3, 1, SORTED, places).tolist() == cipher(3, "order", 1, SORTED, places).tolist()


def test_seek_among_a_billion_takes_milliseconds_and_kilobytes() -> None:
    n, size = 10**9, 256
    batch_indices(0, 0, size, n)
    tracemalloc.start()
    indices, epochs, _ = batch_indices(0, 5 * 10**6, size, n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert epochs[0] == 5 * 10**6 * size // n
    assert indices.min() >= 0
    assert indices.max() < n
    assert peak < 2**20
    secs = []
    for step in range(20):
        began = time.process_time()
        batch_indices(0, 10**5 + step, size, n)
        secs.append(time.process_time() - began)
    assert sorted(secs)[10] < 0.010


def _z(values: NDArray[np.float64], mean: float, variance: float) -> float:
    """How many standard errors the mean of `values` lies off."""
    return float((values.mean() - mean) / math.sqrt(variance / len(values)))


def test_orders_look_like_uniform_ones() -> None:
    """Mean displacement (n^2 - 1) / 3n and its kin, over many keys."""
    places = np.arange(N)
    orders = np.stack([_all(N, seed=seed) for seed in range(KEYS)])
    uniform = np.stack(
        [np.random.Generator(np.random.Philox(seed)).permutation(N) for seed in range(KEYS)]
    )
    figures: tuple[Callable[[NDArray[np.int64]], NDArray[np.float64]], ...] = (
        lambda order: np.abs(order - places).mean(axis=1),
        lambda order: np.abs(np.diff(order, axis=1)).mean(axis=1),
        lambda order: (order == places).sum(axis=1).astype(np.float64),
        lambda order: ((order - N / 2) * (places - N / 2)).mean(axis=1),
    )
    for figure in figures:
        ours, theirs = figure(orders), figure(uniform)
        spread = math.sqrt((ours.var() + theirs.var()) / KEYS)
        assert abs(ours.mean() - theirs.mean()) < SIGMAS * spread


@pytest.mark.parametrize("n", [6, 101, 1000])
def test_pairs_of_places_are_uniform(n: int) -> None:
    """Where two places go, in cells of a grid, by chi-square."""
    keys, cells = 6000, min(n, 6)
    two = np.array([0, n // 2], np.int64)
    found = np.array([cipher(seed, "pairs", 0, n, two) for seed in range(keys)])
    cell = found * cells // n
    counts = np.bincount(cell[:, 0] * cells + cell[:, 1], minlength=cells**2)
    sizes = np.bincount(np.arange(n) * cells // n, minlength=cells).astype(np.float64)
    expected = np.outer(sizes, sizes) - np.diag(sizes)  # two places never share an image
    expected = (expected / expected.sum() * keys).ravel()
    used = expected > 0
    chi = float(((counts[used] - expected[used]) ** 2 / expected[used]).sum())
    free = int(used.sum()) - 1
    assert counts[~used].sum() == 0
    assert abs(_z(np.array([chi]), free, 2 * free)) < SIGMAS


def test_epochs_and_seeds_are_independent() -> None:
    first = _all(N)
    others = [_all(N, epoch=epoch) for epoch in range(1, 30)] + [_all(N, s) for s in range(1, 30)]
    bound = SIGMAS / math.sqrt(N)
    assert all(abs(float(np.corrcoef(first, other)[0, 1])) < bound for other in others)
    assert max(int((first == other).sum()) for other in others) < 12

"""The order that goes from shard to shard."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vitrail.data.loading.lanes import Lanes

SIZES = [97, 0, 101, 53, 7, 89, 103, 61]  # of shards; n = 511


def lanes_of(count: int, window: int, sizes: list[int] = SIZES) -> tuple[Lanes, np.ndarray]:
    """Lanes over shards whose images stand anywhere, and the shard of each image."""
    n = sum(sizes)
    mixed = np.random.default_rng(5).permutation(n)
    shard_of = np.empty(n, np.int64)
    shard_of[mixed] = np.repeat(np.arange(len(sizes)), sizes)
    return Lanes(mixed, np.cumsum(sizes), count, window), shard_of


@pytest.mark.parametrize(("count", "window", "batch"), [(1, 11, 13), (4, 64, 20), (7, 10**6, 7)])
def test_an_epoch_has_each_image_once(count: int, window: int, batch: int) -> None:
    """Of all lanes together; each has epochs of its own length."""
    lanes, _ = lanes_of(count, window)
    steps = [lanes.batch(3, step, batch) for step in range(3 * 511 // batch + 2)]
    indices, epochs, _ = (np.stack(column) for column in zip(*steps, strict=True))
    for epoch in (0, 1, 2):
        assert sorted(indices[epochs == epoch]) == list(range(511)), epoch
    first, second = indices[epochs == 0], indices[epochs == 1]
    assert (first != second).any()
    assert (lanes.batch(4, 0, batch)[0] != indices[0]).any()


def test_it_is_the_same_whoever_reads_and_wherever_it_begins() -> None:
    lanes, shard_of = lanes_of(4, 29)
    again, _ = lanes_of(4, 29)
    for step in (5, 0, 29, 10**9):
        for one, other in zip(lanes.batch(1, step, 12), again.batch(1, step, 12), strict=True):
            np.testing.assert_array_equal(one, other)
    # The first epoch: no shard but at a cut belongs to two processes of two.
    halves: list[set[int]] = [set(), set()]
    for step in range(511 // 12):
        rows = shard_of[lanes.batch(1, step, 12)[0]]
        halves[0] |= {*rows[:6].tolist()}
        halves[1] |= {*rows[6:].tolist()}
    assert len(halves[0] & halves[1]) <= 1


def test_few_shards_are_open_at_a_time() -> None:
    lanes, shard_of = lanes_of(2, 50, [100] * 40)
    for step in range(0, 2000, 50):
        seen = [shard_of[lanes.batch(0, step + k, 2)[0]] for k in range(50)]
        assert all(len(set(column)) <= 3 for column in np.stack(seen).T.tolist())


def test_repeats_stand_in_a_row() -> None:
    lanes, _ = lanes_of(2, 16)
    indices, _, numbers = lanes.batch(0, 0, 12, repeats=3)
    assert numbers.tolist() == [0, 1, 2] * 4
    assert (indices.reshape(-1, 3) == indices.reshape(-1, 3)[:, :1]).all()


def test_a_far_step_of_very_many_images_is_found_at_once() -> None:
    """10^7 images in 10^4 shards; nothing but the shards' order is made."""
    n = 10**7
    lanes = Lanes(np.arange(n, dtype=np.uint32), np.arange(1000, n + 1, 1000), 64, 4096)
    lanes.batch(0, 0, 4096)
    began = time.process_time()
    for step in range(20):
        lanes.batch(0, 10**8 + step, 4096)
    assert time.process_time() - began < 2

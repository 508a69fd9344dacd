"""The data order: a permutation every epoch, O(1) seek, independent of batch size, ranks and
resumes.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.loading.order import batch_indices, position
from vitrail.keyed_random import permutation

SEEDS = st.integers(0, 2**32 - 1)


def _stream(seed: int, n: int, batch_size: int, steps: range, repeats: int = 1) -> np.ndarray:
    """(examples, 3): index, epoch and repeat of each example of `steps`."""
    parts = [np.stack(batch_indices(seed, step, batch_size, n, repeats), axis=1) for step in steps]
    return np.concatenate(parts)


@given(n=st.integers(1, 67), seed=SEEDS, batch_size=st.integers(1, 71))
@settings(max_examples=60, deadline=None)
def test_every_epoch_shows_every_image_once(n: int, seed: int, batch_size: int) -> None:
    stream = _stream(seed, n, batch_size, range(2 * n // batch_size + 1))[: 2 * n]
    for epoch in range(2):
        here = stream[stream[:, 1] == epoch][:, 0]
        np.testing.assert_array_equal(here, permutation(seed, epoch, n))


@given(n=st.integers(1, 67), seed=SEEDS, pair=st.tuples(st.integers(1, 31), st.integers(1, 31)))
@settings(max_examples=60, deadline=None)
def test_batch_size_does_not_change_the_stream(n: int, seed: int, pair: tuple[int, int]) -> None:
    first, second = (_stream(seed, n, size, range(-(-100 // size)))[:100] for size in pair)
    np.testing.assert_array_equal(first, second)


def test_a_late_step_equals_the_step_reached_by_walking() -> None:
    walked = _stream(7, 13, 5, range(40))
    np.testing.assert_array_equal(np.stack(batch_indices(7, 39, 5, 13), axis=1), walked[-5:])
    far = batch_indices(7, 10**12, 5, 13)
    assert position(10**12, 5, 13) == (far[1][0], 5 * 10**12 % 13)


def test_a_batch_may_span_several_epochs() -> None:
    indices, epochs, _ = batch_indices(0, 1, 11, 3)
    assert epochs.tolist() == [3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7]
    assert sorted(indices[1:4].tolist()) == [0, 1, 2]


def test_repeated_augmentation_shows_an_image_several_times_in_a_row() -> None:
    stream = _stream(0, 13, 13, range(1), repeats=3)
    order = permutation(0, 0, 13)
    np.testing.assert_array_equal(stream[:, 0], np.repeat(order[:5], 3)[:13])
    assert stream[:, 2].tolist() == [0, 1, 2] * 4 + [0]
    assert (_stream(0, 13, 13, range(1, 2), repeats=3)[:, 1] == 1).all()


def test_seeds_and_epochs_give_different_orders() -> None:
    first = batch_indices(0, 0, 101, 101)[0]
    assert (first != batch_indices(1, 0, 101, 101)[0]).any()
    assert (first != batch_indices(0, 1, 101, 101)[0]).any()

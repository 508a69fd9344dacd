"""Keyed random numbers: Random123's known answers, purity, uniformity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.keyed_random import Words, mix, permutation, philox4x32, uniforms

# Random123 1.14, tests/kat_vectors, "philox4x32 10": counter, key, answer.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]

GOLDEN_ORDER = [1, 5, 2, 6, 3, 4, 0]
GOLDEN_UNIFORMS = [0.6261364636011422, 0.6963635003194213, 0.5420691911131144]
GOLDEN_MIX = 429195772949465841


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def _counter(words: list[int]) -> tuple[Words, Words, Words, Words]:
    c0, c1, c2, c3 = (np.array([word], dtype=np.uint64) for word in words)
    return c0, c1, c2, c3


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers_of_random123(counter: str, key: str, answer: str) -> None:
    k0, k1 = _words(key)
    out = philox4x32(_counter(_words(counter)), (k0, k1))
    assert [int(word[0]) for word in out] == _words(answer)


def test_all_known_answers_at_once_when_counters_are_arrays() -> None:
    columns = np.array([_words(counter) for counter, _, _ in KNOWN], dtype=np.uint64).T
    out = philox4x32((columns[0], columns[1], columns[2], columns[3]), (0, 0))
    alone = [philox4x32(_counter(_words(counter)), (0, 0)) for counter, _, _ in KNOWN]
    np.testing.assert_array_equal(
        np.stack(out), np.concatenate([np.stack(one) for one in alone], axis=1)
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 2**20),
    indices=st.lists(st.integers(0, 2**40), min_size=1, max_size=7),
    num=st.integers(1, 11),
    repeat=st.integers(0, 7),
)
@settings(max_examples=50)
def test_a_row_depends_on_its_own_key_only(
    seed: int, epoch: int, indices: list[int], num: int, repeat: int
) -> None:
    whole = uniforms(seed, "augment", epoch, np.array(indices), num, repeat=repeat)
    for row, index in zip(whole, indices, strict=True):
        alone = uniforms(seed, "augment", epoch, np.array([index]), num + 5, repeat=repeat)[0]
        np.testing.assert_array_equal(row, alone[:num])
    assert whole.shape == (len(indices), num)
    assert ((whole >= 0) & (whole < 1)).all()


def test_every_part_of_the_key_changes_the_numbers() -> None:
    base = uniforms(1, "a", 2, np.array([3]), 8)
    others = [
        uniforms(2, "a", 2, np.array([3]), 8),
        uniforms(1, "b", 2, np.array([3]), 8),
        uniforms(1, "a", 3, np.array([3]), 8),
        uniforms(1, "a", 2, np.array([4]), 8),
        uniforms(1, "a", 2, np.array([3 + 2**32]), 8),
        uniforms(1, "a", 2, np.array([3]), 8, repeat=1),
    ]
    rows = np.concatenate([base, *others])
    assert len(np.unique(rows)) == rows.size


def test_epochs_and_repeats_may_differ_by_row() -> None:
    mixed = uniforms(5, "a", np.array([1, 2]), np.array([7, 7]), 3, repeat=np.array([0, 1]))
    np.testing.assert_array_equal(mixed[0], uniforms(5, "a", 1, np.array([7]), 3)[0])
    np.testing.assert_array_equal(mixed[1], uniforms(5, "a", 2, np.array([7]), 3, repeat=1)[0])


def test_numbers_are_uniform_and_uncorrelated() -> None:
    numbers = uniforms(0, "augment", 0, np.arange(20_011), 7)
    # 5 standard errors of a mean of 20,011 uniforms, of a bin count and of a correlation
    assert np.abs(numbers.mean(axis=0) - 0.5).max() < 5 * (1 / 12 / 20_011) ** 0.5
    counts = np.histogram(numbers, bins=16, range=(0, 1))[0]
    assert np.abs(counts - numbers.size / 16).max() < 5 * (numbers.size / 16) ** 0.5
    correlation = np.corrcoef(numbers.T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / 20_011**0.5


def test_mix_depends_on_every_number_and_place() -> None:
    seeds = [mix(), mix(0), mix(1), mix(0, 0), mix(0, 1), mix(1, 0), mix(2**40, 1), mix(2**32 - 1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@given(n=st.integers(0, 997), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_permutation_holds_everything_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(permutation(seed, epoch, n).tolist()) == list(range(n))


def test_permutations_differ_by_seed_and_epoch_and_are_read_only() -> None:
    first = permutation(0, 0, 101)
    assert (first != permutation(0, 1, 101)).any()
    assert (first != permutation(1, 0, 101)).any()
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_first_places_are_uniform() -> None:
    firsts = np.array([permutation(0, epoch, 5)[0] for epoch in range(2003)])
    counts = np.bincount(firsts, minlength=5)
    assert np.abs(counts - 2003 / 5).max() < 5 * (2003 / 5) ** 0.5


def test_streams_stay_as_released() -> None:
    """Golden: a resumed run of an older release must see the same order and the same images."""
    assert permutation(0, 0, 7).tolist() == GOLDEN_ORDER
    np.testing.assert_array_equal(uniforms(0, "augment", 1, np.array([2]), 3)[0], GOLDEN_UNIFORMS)
    assert mix(0, 1) == GOLDEN_MIX

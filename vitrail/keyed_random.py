"""Random numbers that are pure functions of a key: nothing is stored, so nothing has to be saved to
resume.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11,
section 4.3), written in numpy over whole batches and checked against the known answers of
Random123. The 128-bit counter holds

    word 0: block number (low 16 bits) and repeat (high 16)    words 1, 2: index of the example
    word 3: epoch

and the 64-bit key is a hash of (seed, purpose), so that neighbouring seeds share no stream. Orders
of a whole epoch use the raw words of numpy's Philox4x64, whose stream numpy guarantees, and a
stable sort; where there are too many images to sort, a keyed bijection (`cipher`) gives the image
at any place of the order by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # 32-bit words kept in 64 bits, so that products do not overflow

_MULTIPLY = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10
CIPHER_ROUNDS = 8  # even, so that the halves end where they began
# splitmix64's finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
# 2014, with the constants of Stafford's variant 13).
_SCRAMBLE = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = np.uint64(31)


def philox4x32(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> list[Words]:
    """The four random 32-bit words of each counter; the arrays of `counter` broadcast against each
    other.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        first, second = _MULTIPLY[0] * c0, _MULTIPLY[1] * c2
        c0 = (second >> _HALF) ^ c1 ^ np.uint64(k0)
        c1 = second & _LOW
        c2 = (first >> _HALF) ^ c3 ^ np.uint64(k1)
        c3 = first & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def mix(*numbers: int) -> int:
    """A seed in [0, 2**63) from several integers of up to 64 bits; every number and its place
    count.
    """
    key = (0, 0)
    for place, number in enumerate(numbers):
        words = (number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF, place, len(numbers))
        c0, c1, c2, c3 = (np.array([word], dtype=np.uint64) for word in words)
        out = philox4x32((c0, c1, c2, c3), key)
        key = (int(out[0][0]), int(out[1][0]))
    return (key[1] << 32 | key[0]) & (2**63 - 1)


@lru_cache(maxsize=256)
def _key(seed: int, purpose: int | str) -> tuple[int, int]:
    if isinstance(purpose, str):
        purpose = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    mixed = mix(seed, purpose)
    return mixed & 0xFFFFFFFF, mixed >> 32


def uniforms(
    seed: int,
    purpose: int | str,
    epoch: int | NDArray[np.int64],
    indices: NDArray[np.int64],
    num: int,
    *,
    repeat: int | NDArray[np.int64] = 0,
    columns: Collection[int] | None = None,
) -> NDArray[np.float64]:
    """`num` numbers in [0, 1) a row, multiples of 2**-32; row b is a function of (seed, purpose,
    epoch, index, repeat).

    `indices` (B,) int64 >= 0; `epoch` and `repeat` one number or (B,), below 2**32 and 2**16. The
    first columns do not depend on `num`. Returns (B, num); with `columns`, blocks of four without
    any of them are left out: NaN.
    """
    index = np.asarray(indices).astype(np.uint64)[:, None]  # (B, 1)
    num_blocks = -(-num // 4)
    drawn = sorted({column // 4 for column in (range(num) if columns is None else columns)})
    blocks = np.array(drawn, dtype=np.uint64)[None, :]  # (1, blocks)
    high = np.broadcast_to(np.asarray(repeat, dtype=np.uint64), (len(index),))[:, None]
    epochs = np.broadcast_to(np.asarray(epoch, dtype=np.uint64), (len(index),))[:, None]
    counter = (blocks | high << np.uint64(16), index & _LOW, index >> _HALF, epochs)
    words = philox4x32(counter, _key(seed, purpose))  # 4 x (B, blocks)
    numbers = np.full((len(index), num_blocks, 4), np.nan)
    for place, word in enumerate(words):
        numbers[:, drawn, place] = word * 2.0**-32
    return numbers.reshape(len(index), -1)[:, :num]


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of `n` things in one epoch, int64 (n,), read-only: the ranks of n keyed 64-bit
    words.
    """
    low, high = _key(seed, "order")
    words = np.random.Philox(key=high << 32 | low, counter=epoch << 64).random_raw(n)
    order = np.argsort(words, kind="stable")
    order.flags.writeable = False
    return order


def cipher(
    seed: int,
    purpose: str,
    epoch: int | str,
    n: int,
    places: NDArray[np.int64],
    *,
    rounds: int = CIPHER_ROUNDS,
) -> NDArray[np.int64]:
    """Where a keyed bijection of 0..n-1 sends each of `places`, int64 of their shape; no memory
    but theirs.

    A generalised Feistel network on Z_a x Z_b with a * b >= n; what falls outside is enciphered
    again (cycle walking): J. Black, P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
    2002, section 4. n below 2**62, `rounds` even.
    """
    a = max(1, math.isqrt(max(n - 1, 0)) + 1)  # ceil(sqrt(n))
    moduli = np.uint64(a), np.uint64(max(1, -(-n // a)))
    keys = _cipher_keys(seed, purpose, epoch, rounds)
    out = _feistel(np.asarray(places).astype(np.uint64).reshape(-1), moduli, keys)
    while (outside := np.flatnonzero(out >= np.uint64(n))).size:
        out[outside] = _feistel(out[outside], moduli, keys)
    return out.astype(np.int64).reshape(np.shape(places))


def _feistel(x: Words, moduli: tuple[np.uint64, np.uint64], keys: tuple[np.uint64, ...]) -> Words:
    """One pass: the half that grows is taken by the modulus of the place that it goes to."""
    left, right = np.divmod(x, moduli[1])
    for number, key in enumerate(keys):
        modulus = moduli[number % 2]
        left, right = right, (left + _scrambled(right + key) % modulus) % modulus
    return left * moduli[1] + right


def _scrambled(x: Words) -> Words:
    """A fixed mixing of 64 bits, by which every bit of the answer hangs on every bit of `x`."""
    for shift, factor in _SCRAMBLE:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> _LAST_SHIFT)


@lru_cache(maxsize=1024)
def _cipher_keys(seed: int, purpose: str, epoch: int | str, rounds: int) -> tuple[np.uint64, ...]:
    """A 64-bit key a round: sha256 of the names, chained."""
    block, words = f"{seed}/{purpose}/{epoch}".encode(), b""
    while len(words) < 8 * rounds:
        block = hashlib.sha256(block).digest()
        words += block
    return tuple(np.frombuffer(words, "<u8")[:rounds].astype(np.uint64))

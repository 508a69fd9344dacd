"""Which examples make up global step s: a pure function of (seed, s), found in O(1) without
replaying earlier steps.

Training reads one endless stream. Position p of it lies in epoch p // n at place p % n, and shows
the image permutation(seed, epoch)[place]. From SORTED images on, where a permutation kept in memory
would cost every process 8 bytes an image, it is cipher(seed, epoch, place). Step s (from 0) takes
the B positions from s * B on; a batch may reach over an epoch edge and is never partial. Rank r of
R takes its contiguous slice of the global batch, so the number of ranks and of loader workers never
changes what is learnt (reliability R5, R7).

Repeated augmentation (Hoffer et al., arXiv 1901.09335; DeiT's RASampler): each image stands
`repeats` times in a row, each time augmented with another key. As in DeiT an epoch still counts n
examples, so it shows ceil(n / repeats) different images, another draw of them every epoch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.keyed_random import cipher, permutation

Indices = NDArray[np.int64]
SORTED = 2**22  # images whose order is sorted out once an epoch: 32 MB


def shown(seed: int, epoch: int, n: int, places: Indices) -> Indices:
    """The images that an epoch over `n` shows at `places`, int64 of their shape."""
    if n < SORTED:
        return permutation(seed, epoch, n)[places]
    return cipher(seed, "order", epoch, n, places)


def position(step: int, batch_size: int, n: int) -> tuple[int, int]:
    """(epoch, place) of the first example of `step` (from 0) in a set of `n` images."""
    return divmod(step * batch_size, n)


def batch_indices(
    seed: int, step: int, batch_size: int, n: int, repeats: int = 1
) -> tuple[Indices, Indices, Indices]:
    """Examples of the global batch of `step`: indices, epochs, repeat numbers, each int64 (B,)."""
    stream = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, places = np.divmod(stream, n)  # (B,), (B,)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        indices[here] = shown(seed, epoch, n, places[here] // repeats)
    return indices, epochs, places % repeats

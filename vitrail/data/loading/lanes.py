"""An order of images that goes from shard to shard: few shards are open at a time.

A batch takes as many images from each of C lanes. In an epoch the shards, in an order of their own,
are laid end to end and cut into C equal lanes; a lane goes through its part in windows of M images,
each in an order of its own. Orders are keyed bijections (`keyed_random.cipher`), so a step is found
by arithmetic and one binary search an image, and nothing about the order is saved. Lane l gives
rows l B / C to (l + 1) B / C of every batch, so processes that divide the rows divide the lanes,
and the shards with them. Each lane has epochs of its own, of n / C images rounded up or down; each
image stands once in an epoch of all lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vitrail.keyed_random import cipher

Indices = NDArray[np.int64]
SHARD_ROUNDS = 12  # there are few shards, and their order should be as good as any


@dataclass(frozen=True, eq=False)
class Lanes:
    """by_shard: (n,) the images of one shard after those of another; ends: (S,) where those of each
    end; count: C, at most n; window: M.
    """

    by_shard: NDArray[np.integer]
    ends: Indices
    count: int
    window: int

    def batch(
        self, seed: int, step: int, batch_size: int, repeats: int = 1
    ) -> tuple[Indices, Indices, Indices]:
        """As `order.batch_indices`: indices, epochs, repeat numbers of `step`, each int64 (B,). C
        divides B.
        """
        per, n = batch_size // self.count, len(self.by_shard)
        bounds = np.arange(self.count + 1) * n // self.count
        stream = np.arange(step * per, (step + 1) * per, dtype=np.int64)  # the same in each lane
        parts = [
            self._of_lane(seed, lane, stream, (int(bounds[lane]), int(bounds[lane + 1])), repeats)
            for lane in range(self.count)
        ]
        indices, epochs, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
        return indices, epochs, numbers

    def _of_lane(
        self, seed: int, lane: int, stream: Indices, bounds: tuple[int, int], repeats: int
    ) -> tuple[Indices, Indices, Indices]:
        """What lane `lane`, which has the places between `bounds`, shows at `stream`."""
        first, length = bounds[0], bounds[1] - bounds[0]
        epochs, places = np.divmod(stream, length)
        numbers = places % repeats
        places //= repeats
        indices = np.empty(len(stream), np.int64)
        keys = np.stack([epochs, places // self.window], axis=1)
        for epoch, window in np.unique(keys, axis=0).tolist():
            here = (keys == (epoch, window)).all(axis=1)
            start = window * self.window
            size = min(self.window, length - start)
            purpose = f"window {lane} {window}"
            moved = cipher(seed, purpose, epoch, size, places[here] - start)
            indices[here] = self._at(seed, epoch, first + start + moved)
        return indices, epochs, numbers

    def _at(self, seed: int, epoch: int, places: Indices) -> Indices:
        """The images at `places` of the shards of an epoch, laid end to end."""
        order, ends = _laid(self, seed, epoch)
        which = np.searchsorted(ends, places, side="right")
        shards = order[which]
        from_end = ends[which] - places
        return self.by_shard[self.ends[shards] - from_end].astype(np.int64)


@lru_cache(maxsize=4)  # the newest epochs of a run, whose lanes may be in two of them
def _laid(lanes: Lanes, seed: int, epoch: int) -> tuple[Indices, Indices]:
    """The order of the shards in an epoch, and where each ends, both (S,)."""
    count = len(lanes.ends)
    places = np.arange(count, dtype=np.int64)
    order = cipher(seed, "shards", epoch, count, places, rounds=SHARD_ROUNDS)
    sizes = np.diff(lanes.ends, prepend=0)
    return order, np.cumsum(sizes[order])

"""What an index says of the images of each split, gathered while they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vitrail.data.shards.index import PLACE, Rows
from vitrail.data.sources.digest import DIGEST_BYTES, keys_of
from vitrail.data.sources.many_labels import ManyLabels
from vitrail.data.sources.source import Labels


@dataclass(frozen=True, eq=False)
class Found:
    """The images of one split, by place: what of each is known, and which are left out."""

    places: NDArray[Any]  # (n,) of PLACE
    digests: NDArray[np.uint8]
    is_good: NDArray[np.bool_]
    bad: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def room(cls, n: int) -> Self:
        """For `n` images."""
        digests = np.zeros((n, DIGEST_BYTES), np.uint8)
        return cls(np.zeros(n, PLACE), digests, np.zeros(n, bool))

    def take(self, index: int, place: tuple[int, int, int, int], digest: bytes) -> None:
        """An image that can be used."""
        self.places[index] = place
        self.digests[index] = np.frombuffer(digest, np.uint8)
        self.is_good[index] = True

    def refuse(self, name: str, reason: str) -> None:
        """One that cannot."""
        self.bad.append((name, reason))

    def rows(self, names: Sequence[str], labels: Labels) -> Rows:
        """The good ones. names, labels: of all."""
        kept = np.flatnonzero(self.is_good)
        ids, ends = _flat(labels, kept)
        return Rows(
            self.places[kept],
            ids,
            self.digests[kept],
            [names[i] for i in kept.tolist()],
            equals_of(self.digests[kept]),
            ends,
        )


def _flat(labels: Labels, kept: NDArray[np.int64]) -> tuple[NDArray[np.int32], Any]:
    """Labels one after another, and where those of each image end: None where each has one."""
    if isinstance(labels, ManyLabels):
        chosen = labels[kept]
        return chosen.ids.astype(np.int32), chosen.ends.astype(np.int64)
    own = labels[kept]
    if own.ndim == 1:
        return own.astype(np.int32), None
    images, ids = np.nonzero(own > 0)
    ends = np.cumsum(np.bincount(images, minlength=len(own)), dtype=np.int64)
    return ids.astype(np.int32), ends


def equals_of(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(m, 2): places of images that are equal to an earlier one, and that one."""
    keys = keys_of(digests)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    firsts = first[group]
    later = np.flatnonzero(firsts != np.arange(len(keys)))
    return np.stack([later, firsts[later]], axis=1).astype(np.int64)


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several splits, one after another."""
    starts = np.cumsum([0, *(len(one.places) for one in parts)])
    before = np.cumsum([0, *(len(one.labels) for one in parts)])
    ends = [
        one.ends + start
        for one, start in zip(parts, before.tolist(), strict=False)
        if one.ends is not None
    ]
    equals = [one.equals + start for one, start in zip(parts, starts.tolist(), strict=False)]
    return Rows(
        np.concatenate([one.places for one in parts]),
        np.concatenate([one.labels for one in parts]),
        np.concatenate([one.digests for one in parts]),
        [name for one in parts for name in one.names or ()],
        np.concatenate(equals),
        np.concatenate(ends) if ends else None,
    )


def extents_of(parts: dict[str, Rows]) -> dict[str, tuple[int, int]]:
    """First row and the one after the last, of each split."""
    ends = np.cumsum([0, *(len(one.places) for one in parts.values())]).tolist()
    return {part: (ends[k], ends[k + 1]) for k, part in enumerate(parts)}

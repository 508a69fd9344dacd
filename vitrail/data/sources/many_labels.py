"""Labels of images that have several, of so many classes that a table of 0 and 1 would not fit.

8 bytes an image and 4 a label. It answers the few questions that are asked of labels; rows of 0 and
1 are made for the images of a batch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar, cast, overload

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Dense = NDArray[np.float32]
DENSE_CELLS = 2**24  # images x classes, up to which labels are a table: 64 MB
CODE_BYTES = 8


@dataclass(frozen=True, eq=False)
class ManyLabels:
    """ends (n,) int64: where the labels of each image end in `ids`, int32, ascending within an
    image. As an array it would have the shape (n, num_classes).
    """

    ends: Indices
    ids: NDArray[np.int32]
    num_classes: int
    ndim: ClassVar[int] = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(n, C)."""
        return len(self.ends), self.num_classes

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return int(self.ends.nbytes + self.ids.nbytes)

    @property
    def counts(self) -> Indices:
        """How many labels each image has. (n,)"""
        return np.diff(self.ends, prepend=0)

    @property
    def owners(self) -> Indices:
        """The image of each of `ids`."""
        return np.repeat(np.arange(len(self)), self.counts)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, places: int | np.integer[Any]) -> Dense: ...
    @overload
    def __getitem__(self, places: NDArray[Any] | slice) -> ManyLabels: ...
    def __getitem__(self, places: Any) -> Dense | ManyLabels:
        """The row of one image (C,), or the labels of several."""
        if isinstance(places, (int, np.integer)):
            row: Dense = self.dense(np.array([places]))[0]
            return row
        chosen = np.arange(len(self))[places]
        counts = self.counts[chosen]
        return ManyLabels(np.cumsum(counts), self.ids[self._taken(chosen)], self.num_classes)

    def dense(self, places: NDArray[Any]) -> Dense:
        """Rows of 0 and 1, float32 (m, C)."""
        rows = np.zeros((len(places), self.num_classes), np.float32)
        owners = np.repeat(np.arange(len(places)), self.ends[places] - self._starts(places))
        rows[owners, self.ids[self._taken(places)]] = 1
        return rows

    def sum(self, axis: int) -> Indices:
        """Images of each class. (C,)"""
        assert axis == 0
        return np.bincount(self.ids, minlength=self.num_classes)

    def rarest(self) -> Indices:
        """The rarest class of each image, of equally rare ones the first; -1: none. (n,)"""
        owners = self.owners
        order = np.lexsort((self.ids, self.sum(0)[self.ids], owners))
        firsts = np.unique(owners[order], return_index=True)
        found = np.full(len(self), -1, np.int64)
        found[firsts[0]] = self.ids[order][firsts[1]]
        return found

    def leading(self) -> Indices:
        """The first class of each image, 0 for one without any. (n,)"""
        has = self.counts > 0
        found = np.zeros(len(self), np.int64)
        found[has] = self.ids[(self.ends - self.counts)[has]]
        return found

    def firsts(self) -> Indices:
        """The first image of each class that occurs, by class."""
        found: Indices = self.owners[np.unique(self.ids, return_index=True)[1]]
        return found

    def of_class(self, number: int) -> NDArray[np.bool_]:
        """Whether each image has that label. (n,)"""
        found = np.zeros(len(self), bool)
        found[self.owners[self.ids == number]] = True
        return found

    def renumbered(self, places: Indices, num_classes: int) -> ManyLabels:
        """Class k becomes `places[k]`."""
        ids = places[self.ids]
        order = np.lexsort((ids, self.owners))
        return ManyLabels(self.ends, ids[order].astype(np.int32), num_classes)

    def codes(self) -> NDArray[np.uint8]:
        """(n, 8): equal for equal labels."""
        starts = self.ends - self.counts
        found = (
            blake2b(self.ids[a:b].astype("<i4").tobytes(), digest_size=CODE_BYTES).digest()
            for a, b in zip(starts.tolist(), self.ends.tolist(), strict=True)
        )
        return np.frombuffer(b"".join(found), np.uint8).reshape(-1, CODE_BYTES)

    def _starts(self, places: NDArray[Any]) -> Indices:
        return np.where(places > 0, self.ends[places - 1], 0)

    def _taken(self, places: NDArray[Any]) -> Indices:
        """Where the labels of `places` stand in `ids`."""
        starts = self._starts(places)
        counts = self.ends[places] - starts
        before = np.repeat(np.cumsum(counts) - counts, counts)
        found: Indices = np.repeat(starts, counts) + np.arange(len(before)) - before
        return found


def as_labels(labels: ManyLabels) -> NDArray[Any]:
    """The same, under the type of the labels of a source."""
    return cast(NDArray[Any], labels)


def many(names: Sequence[Sequence[int]], num_classes: int) -> ManyLabels:
    """Of the classes of each image."""
    own = [sorted(set(one)) for one in names]
    ends = np.cumsum([len(one) for one in own], dtype=np.int64)
    return ManyLabels(ends, np.array([k for one in own for k in one], np.int32), num_classes)


def stacked(labels: Sequence[Any]) -> Any:
    """Labels of several sources, one after another."""
    if not isinstance(labels[0], ManyLabels):
        return np.concatenate(labels)
    counts = np.concatenate([one.counts for one in labels])
    ids = np.concatenate([one.ids for one in labels])
    return ManyLabels(np.cumsum(counts), ids, labels[0].num_classes)


def targets(labels: Any, places: NDArray[Any]) -> NDArray[Any]:
    """What a batch is taught: int64 (m,), or 0 and 1 float32 (m, C)."""
    if isinstance(labels, ManyLabels):
        return labels.dense(places)
    rows: NDArray[Any] = labels[places]
    whole: NDArray[Any] = rows if rows.dtype.kind == "f" else rows.astype(np.int64, copy=False)
    return whole

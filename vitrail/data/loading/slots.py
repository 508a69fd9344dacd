"""Which rows of a global batch one process makes, and in how many pieces.

A step is a batch of B rows, whoever computes it. A process that computes some of them decodes no
others, but for one: mixing blends a row with the row before it, so a piece may begin with the row
before its first one. Rows of a piece are augmented together, so a piece of the same rows has the
same bits wherever it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vitrail.data.loading.batch import Batch


@dataclass(frozen=True)
class Slots:
    """Rows `first` .. `stop` - 1 of `batch_size`, in `pieces` of equal length. has_before: each
    piece begins with the row before its own.
    """

    batch_size: int
    first: int
    stop: int
    pieces: int = 1
    has_before: bool = False

    @property
    def length(self) -> int:
        """Rows of a piece that are its own."""
        return (self.stop - self.first) // self.pieces

    @property
    def made(self) -> int:
        """Rows of a piece as it is made."""
        return self.length + self.has_before

    def rows(self) -> list[NDArray[np.int64]]:
        """The rows of each piece, (made,); the row before row 0 is the last one."""
        starts = range(self.first, self.stop, self.length)
        return [
            np.arange(start - self.has_before, start + self.length, dtype=np.int64)
            % self.batch_size
            for start in starts
        ]

    def split(self, batch: Batch) -> list[Batch]:
        """The pieces of what a loader made of these rows."""
        return [
            replace(
                batch,
                images=batch.images[start : start + self.made],
                labels=batch.labels[start : start + self.made],
                indices=batch.indices[start : start + self.made],
                first=self.first + piece * self.length,
                has_before=self.has_before,
            )
            for piece, start in enumerate(range(0, self.pieces * self.made, self.made))
        ]


def count_rows(batch_size: int, slots: Slots | None) -> int:
    """Rows that a loader makes of a batch; all of them without `slots`."""
    return batch_size if slots is None else slots.pieces * slots.made

"""What is kept of the probabilities of very many images over very many classes.

50,000 images of 21,841 classes have 4.4 GB of probabilities. Every figure of an evaluation with one
label an image follows from five numbers an image: the best class and its probability, the label's
probability and rank, and the sum of squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.metrics.single_label import ranks

CELLS = 2**24  # images x classes, up to which all probabilities are kept: 64 MB
Probabilities = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ProbabilitySummary:
    """Of n images, in the place of probabilities (n, K). best (n,): the class with the highest; own
    and rank: of the label, from 0; squares: sum over classes of p^2.
    """

    best: NDArray[np.int64]
    confidence: Probabilities
    own: Probabilities
    rank: NDArray[np.int64]
    squares: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.best)

    def __getitem__(self, kept: NDArray[Any]) -> Self:
        """The same of some images."""
        return type(self)(*(getattr(self, one.name)[kept] for one in fields(self)))

    def argmax(self, axis: int) -> NDArray[np.int64]:
        """The best class of each image. (n,)"""
        assert axis == 1
        return self.best

    def max(self, axis: int, initial: float = 0.0) -> Probabilities:
        """Its probability. (n,)"""
        assert axis == 1
        return self.confidence


def summary_of(probabilities: Probabilities, labels: NDArray[np.int64]) -> ProbabilitySummary:
    """Of probabilities (m, K) and labels (m,)."""
    return ProbabilitySummary(
        np.asarray(probabilities.argmax(axis=1), np.int64),
        probabilities.max(axis=1, initial=0.0),
        np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0],
        ranks(probabilities, labels),
        np.einsum("nk,nk->n", probabilities, probabilities, dtype=np.float64),
    )


@dataclass
class KeptProbabilities:
    """Chunks as they come: all of them, or from CELLS on what is kept of each."""

    chunks: list[Probabilities | ProbabilitySummary]
    labels: list[NDArray[Any]]
    cells: int = 0
    num_summaries: int = 0  # chunks from the first on that are summaries

    def add(self, probabilities: Probabilities, labels: NDArray[Any]) -> None:
        """The next images; several labels an image are always kept whole."""
        self.cells += probabilities.size
        self.chunks.append(probabilities)
        self.labels.append(labels)
        if self.cells <= CELLS or labels.ndim == 2:
            return
        for place in range(self.num_summaries, len(self.chunks)):
            chunk = self.chunks[place]
            assert not isinstance(chunk, ProbabilitySummary)
            self.chunks[place] = summary_of(chunk, self.labels[place])
        self.num_summaries = len(self.chunks)

    def joined(self) -> Probabilities:
        """All of them, or a `ProbabilitySummary` under their type."""
        summaries = [one for one in self.chunks if isinstance(one, ProbabilitySummary)]
        if not summaries:
            return np.concatenate(cast(Sequence[Probabilities], self.chunks))
        columns = (
            np.concatenate([getattr(one, field.name) for one in summaries])
            for field in fields(ProbabilitySummary)
        )
        return cast(Probabilities, ProbabilitySummary(*columns))

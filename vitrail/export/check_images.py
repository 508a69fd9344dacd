"""The real images that an export is checked with: of validation, never of test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.data.sources.source import Source, subset
from vitrail.errors import DataError, ModelError
from vitrail.evaluation.on_data import relabelled
from vitrail.spelling import count

LEAST = 16
BATCH = 32
SIZES = (1, 2, 3, 7, 32)  # batches that every export is tried with


@dataclass(frozen=True, eq=False)
class CheckImages:
    """pixels: (n, C, H, W) behind resize and crop, 0 to 255; labels: (n,) or (n, K), None where the
    classes are not the model's; split: which they are, for people.
    """

    pixels: NDArray[Any]
    labels: NDArray[Any] | None
    data: str
    split: str

    def __len__(self) -> int:
        return len(self.pixels)

    def spread(self, most: int) -> NDArray[np.int64]:
        """Places of at most `most` images, over all of them."""
        return spread(len(self), most)

    def at(self, places: NDArray[np.int64]) -> CheckImages:
        """The images at these places."""
        labels = None if self.labels is None else self.labels[places]
        return CheckImages(self.pixels[places], labels, self.data, self.split)

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """Every image once, in order."""
        for first in range(0, len(self.pixels), BATCH):
            yield self.pixels[first : first + BATCH].astype(np.float32)

    def first(self, size: int) -> NDArray[np.float32]:
        """`size` images from the beginning, again from there where there are fewer."""
        return self.pixels[np.arange(size) % len(self.pixels)].astype(np.float32)


def spread(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of n places, at equal distances."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64))


def read_images(
    source: Source, preprocess: Preprocess, classes: Sequence[str], *, split: str, most: int
) -> CheckImages:
    """At most `most` images of `source`, spread over all of it.

    Raises DataError VIT-366 for fewer than 16, and what reading raises.
    """
    if len(source) < LEAST:
        raise DataError(
            "VIT-366",
            f"{source.name} {split} has {count(len(source), 'image')}; a check needs at least "
            f"{LEAST}.",
            hint="Name others: --images DATA --split train",
        )
    chosen = subset(source, spread(len(source), most))
    loader = make_loader(chosen, preprocess, None, Batching(BATCH))
    pixels = np.concatenate([np.asarray(one.images) for one in loader.eval_batches(BATCH)])
    return CheckImages(pixels, labels_of(chosen, classes), source.name, split)


def labels_of(source: Source, classes: Sequence[str]) -> NDArray[Any] | None:
    """The labels in the order of `classes`; None where the data has others."""
    try:
        return relabelled(source, classes, "the model").labels
    except ModelError:
        return None

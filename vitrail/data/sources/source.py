"""The two kinds of picture sources, in memory and in files, and the splits made of them.

Both kinds answer the same questions (`Source`); nothing else in vitrail knows where pictures come
from. Class index = position in `classes`. Labels are int64 (n,), or float32 (n, C) of 0 and 1 where
a picture may carry several labels.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.decode import Pixels, read_bytes
from vitrail.spelling import printable

Labels = NDArray[Any]
Indices = NDArray[np.int64]
Digests = NDArray[np.uint8]  # (n, 16), of the content of images: see data/sources/digest.py


class Source(Protocol):
    """Labelled pictures in a fixed order."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> Labels: ...
    def __len__(self) -> int: ...
    def read(self, index: int) -> tuple[bytes | Pixels, Any]: ...
    def source_id(self, index: int) -> str: ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Pictures in memory: `images` uint8 (n, H, W, C), C 1 (gray) or 3 (RGB).

    `numbers` int64 (n,) are the positions in the file that they came from, `part` names it.
    """

    name: str
    classes: tuple[str, ...]
    labels: Labels
    images: Pixels
    part: str = "images"
    numbers: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    digests: Digests | None = None  # where they are known

    def __post_init__(self) -> None:
        if not len(self.numbers):
            object.__setattr__(self, "numbers", np.arange(len(self.images), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> tuple[Pixels, Any]:
        """Pixels uint8 (H, W, C) and the label of one picture."""
        return self.images[index], self.labels[index]

    def source_id(self, index: int) -> str:
        """Which picture it is, for people and tables: "train-images:17"."""
        return f"{self.part}:{self.numbers[index]}"


@dataclass(frozen=True, eq=False)
class FileSource:
    """Picture files: `paths` relative to the folder `root`, with "/" between the parts."""

    name: str
    classes: tuple[str, ...]
    labels: Labels
    root: str
    paths: tuple[str, ...]
    digests: Digests | None = None  # where they are known

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        """The file to open."""
        return os.path.join(self.root, self.paths[index])

    def read(self, index: int) -> tuple[bytes, Any]:
        """Bytes and label of one picture. Raises DecodeFault where the file cannot be read.

        The folders were checked when they were listed, so only a file that is a link is resolved.
        """
        path = self.path(index)
        root = self.root if os.path.islink(path) else None
        return read_bytes(path, root=root), self.labels[index]

    def source_id(self, index: int) -> str:
        """The relative path, printable: odd bytes and control characters are escaped."""
        return printable(self.paths[index])


@dataclass(frozen=True)
class Splits:
    """A data set: training pictures and, where there are any, validation and test pictures."""

    name: str
    classes: tuple[str, ...]
    train: Source
    val: Source | None
    test: Source | None
    how: str  # one sentence: how the split was made
    kind: Literal["arrays", "files"]
    multi_label: bool = False
    is_drawn: bool = False  # whether pictures were held out at random
    notes: tuple[str, ...] = ()  # what was left out or is unusual, one sentence each
    unused: tuple[Source, ...] = ()  # what belongs to the data and to no split
    opened_ns: int = field(default_factory=time.time_ns)  # what was changed later may be another

    def parts(self) -> dict[str, Source]:
        """The splits there are, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: source for name, source in found.items() if source is not None}

    def counts(self) -> dict[str, int]:
        """Images in each split."""
        return {name: len(source) for name, source in self.parts().items()}


@overload
def subset(source: ArraySource, indices: Indices) -> ArraySource: ...
@overload
def subset(source: FileSource, indices: Indices) -> FileSource: ...
@overload
def subset(source: Source, indices: Indices) -> Source: ...
def subset(source: Source, indices: Indices) -> Source:
    """The pictures at `indices`, in that order: a source of the same kind."""
    indices = np.asarray(indices, dtype=np.int64)
    labels = source.labels[indices]
    if isinstance(source, ArraySource | FileSource):
        digests = None if source.digests is None else source.digests[indices]
        source = replace(source, labels=labels, digests=digests)
    if isinstance(source, ArraySource):
        return replace(source, images=source.images[indices], numbers=source.numbers[indices])
    if isinstance(source, FileSource):
        return replace(source, paths=tuple(source.paths[i] for i in indices))
    raise TypeError(f"no subset of a {type(source).__name__}")


def class_counts(source: Source) -> list[int]:
    """Pictures of each class; with several labels a picture counts for each of them."""
    if source.labels.ndim == 2:
        return [int(count) for count in source.labels.sum(axis=0)]
    return [int(count) for count in np.bincount(source.labels, minlength=len(source.classes))]

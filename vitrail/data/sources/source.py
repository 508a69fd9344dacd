"""The two kinds of image sources, in memory and in files, and the splits made of them.

Both kinds answer the same questions (`Source`); nothing else in vitrail knows where images come
from. Class index = position in `classes`. Labels are int64 (n,), or float32 (n, C) of 0 and 1 where
an image may carry several labels, `ManyLabels` where that table would be too large.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.image_file import read_bytes
from vitrail.data.images.rgb import Pixels
from vitrail.data.sources.many_labels import stacked
from vitrail.spelling import printable

Labels = NDArray[Any]  # or `ManyLabels`, which answers what is asked of them here
Indices = NDArray[np.int64]
Digests = NDArray[np.uint8]  # (n, 16), of the content of images: see data/sources/digest.py
Hints = NDArray[np.int64]  # (n, 4): bytes, ns of the content, ns of the entry, inode; 0: unknown
YOUNG_NS = 2 * 10**9
WHOLE_BYTES = 2**28  # of pixels, up to which all of them are the key of an image
SOME_BYTES = 256  # of each image, spread evenly, where they are more


class Readable(Protocol):
    """Labelled images in a fixed order, one at a time: what whoever reads them needs."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> Labels: ...
    def __len__(self) -> int: ...
    def read(self, index: int) -> tuple[bytes | Pixels, Any]: ...
    def source_id(self, index: int) -> str: ...


class Indexed(Protocol):
    """What an index knows of its images without a look at any: a sample of places, which images are
    equal, what tells them from others (each None where the images are few and are looked at as any
    are), and which of its rows they are.
    """

    @property
    def rows(self) -> range | NDArray[np.uint32]: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def digest(self) -> str: ...
    def sampled(self, count: int, purpose: str) -> Indices | None: ...
    def equal_to(self) -> Indices | None: ...
    def identity(self) -> str | None: ...


class Source(Readable, Protocol):
    """Labelled images in a fixed order, and what their storage can tell.

    images: all pixels (n, H, W, C) where they are in memory; root: the folder that files lie in;
    digests: of the content of each, where they are known; indexed: what an index knows of them.
    """

    @property
    def digests(self) -> Digests | None: ...
    @property
    def images(self) -> Pixels | None: ...
    @property
    def root(self) -> str | None: ...
    @property
    def indexed(self) -> Indexed | None: ...
    def subset(self, indices: Indices) -> Self: ...
    def relabelled(self, labels: Labels, classes: tuple[str, ...]) -> Self: ...
    def with_digests(self, digests: Digests | None) -> Self: ...
    def joined(self, others: Sequence[Self], name: str) -> Self: ...
    def raw_name(self, index: int) -> str: ...
    def keys(self) -> Iterator[bytes]: ...
    def size_bytes(self, index: int) -> int: ...
    def hints(self, opened_ns: int) -> Hints: ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: `images` uint8 (n, H, W, C), C 1 (gray) or 3 (RGB).

    `numbers` int64 (n,) are the positions in the file that they came from, `part` names it.
    """

    name: str
    classes: tuple[str, ...]
    labels: Labels
    images: Pixels
    part: str = "images"
    numbers: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    digests: Digests | None = None  # where they are known
    root: ClassVar[None] = None
    indexed: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not len(self.numbers):
            object.__setattr__(self, "numbers", np.arange(len(self.images), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> tuple[Pixels, Any]:
        """Pixels uint8 (H, W, C) and the label of one image."""
        return self.images[index], self.labels[index]

    def source_id(self, index: int) -> str:
        """Which image it is, for people and tables: "train-images:17"."""
        return f"{self.part}:{self.numbers[index]}"

    def raw_name(self, index: int) -> str:
        """What names it within its dataset: as for people."""
        return self.source_id(index)

    def subset(self, indices: Indices) -> Self:
        """The images at `indices`, in that order."""
        return replace(
            self,
            labels=self.labels[indices],
            images=self.images[indices],
            numbers=self.numbers[indices],
            digests=None if self.digests is None else self.digests[indices],
        )

    def relabelled(self, labels: Labels, classes: tuple[str, ...]) -> Self:
        """The same images with other labels."""
        return replace(self, labels=labels, classes=classes)

    def with_digests(self, digests: Digests | None) -> Self:
        """The same images, of which the content is known."""
        return replace(self, digests=digests)

    def joined(self, others: Sequence[Self], name: str) -> Self:
        """These and then the others. Raises ValueError for images of other sizes."""
        pieces = [self, *others]
        return replace(
            self,
            name=name,
            labels=stacked([one.labels for one in pieces]),
            images=np.concatenate([one.images for one in pieces]),
            part=name,
            numbers=np.concatenate([one.numbers for one in pieces]),
            digests=None,
        )

    def keys(self) -> Iterator[bytes]:
        """Of each image what it is, wherever it stands: its pixels, or some, and its label."""
        pixels = self.images.reshape(len(self), -1)  # (n, bytes)
        if pixels.size > WHOLE_BYTES:
            pixels = pixels[:, :: max(1, pixels.shape[1] // SOME_BYTES)]
        labels = np.ascontiguousarray(self.labels)
        return (pixels[i].tobytes() + labels[i].tobytes() for i in range(len(self)))

    def size_bytes(self, index: int) -> int:
        """Of its pixels."""
        return int(self.images[index].nbytes)

    def hints(self, opened_ns: int) -> Hints:
        """No file system knows of them: zeros."""
        return np.zeros((len(self), 4), np.int64)


@dataclass(frozen=True, eq=False)
class FileSource:
    """Image files: `paths` relative to the folder `root`, with "/" between the parts."""

    name: str
    classes: tuple[str, ...]
    labels: Labels
    root: str
    paths: tuple[str, ...]
    digests: Digests | None = None  # where they are known
    images: ClassVar[None] = None
    indexed: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        """The file to open."""
        return os.path.join(self.root, self.paths[index])

    def read(self, index: int) -> tuple[bytes, Any]:
        """Bytes and label of one image. Raises DecodeFault where the file cannot be read.

        The folders were checked when they were listed, so only a file that is a link is resolved.
        """
        path = self.path(index)
        root = self.root if os.path.islink(path) else None
        return read_bytes(path, root=root), self.labels[index]

    def source_id(self, index: int) -> str:
        """The relative path, printable: odd bytes and control characters are escaped."""
        return printable(self.paths[index])

    def raw_name(self, index: int) -> str:
        """What names it within its dataset: the relative path as it is."""
        return self.paths[index]

    def subset(self, indices: Indices) -> Self:
        """The images at `indices`, in that order."""
        return replace(
            self,
            labels=self.labels[indices],
            paths=tuple(self.paths[i] for i in indices),
            digests=None if self.digests is None else self.digests[indices],
        )

    def relabelled(self, labels: Labels, classes: tuple[str, ...]) -> Self:
        """The same images with other labels."""
        return replace(self, labels=labels, classes=classes)

    def with_digests(self, digests: Digests | None) -> Self:
        """The same images, of which the content is known."""
        return replace(self, digests=digests)

    def joined(self, others: Sequence[Self], name: str) -> Self:
        """These and then the others, of the same folder."""
        pieces = [self, *others]
        labels = stacked([one.labels for one in pieces])
        paths = tuple(path for one in pieces for path in one.paths)
        return replace(self, name=name, labels=labels, paths=paths, digests=None)

    def keys(self) -> Iterator[bytes]:
        """Of each image what it is, wherever it stands: its path."""
        return (path.encode("utf-8", "surrogateescape") for path in self.paths)

    def size_bytes(self, index: int) -> int:
        """Of the file; -1 where it cannot be asked."""
        try:
            return os.stat(self.path(index)).st_size
        except (OSError, ValueError):
            return -1

    def hints(self, opened_ns: int) -> Hints:
        """What the file system says of each file; 0 for files that are not there and for those that
        changed a moment before `opened_ns`, when the data was opened, or later.
        """
        found = np.zeros((len(self), 4), np.int64)
        for index in range(len(self)):
            try:
                facts = os.stat(self.path(index))
            except (OSError, ValueError):
                continue
            if opened_ns - max(facts.st_mtime_ns, facts.st_ctime_ns) > YOUNG_NS:
                inode = facts.st_ino % 2**63
                found[index] = facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, inode
        return found


@dataclass(frozen=True)
class Splits:
    """A data set: training images and, where there are any, validation and test images."""

    name: str
    classes: tuple[str, ...]
    train: Source
    val: Source | None
    test: Source | None
    how: str  # one sentence: how the split was made
    kind: Literal["arrays", "files"]
    multi_label: bool = False
    is_drawn: bool = False  # whether images were held out at random
    notes: tuple[str, ...] = ()  # what was left out or is unusual, one sentence each
    unused: tuple[Source, ...] = ()  # what belongs to the data and to no split
    index: str = ""  # sha256 of the index of the images, which were all decoded when it was made
    opened_ns: int = field(default_factory=time.time_ns)  # what was changed later may be another

    def parts(self) -> dict[str, Source]:
        """The splits there are, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: source for name, source in found.items() if source is not None}

    def counts(self) -> dict[str, int]:
        """Images in each split."""
        return {name: len(source) for name, source in self.parts().items()}


AnySource = TypeVar("AnySource", bound=Source)


def subset(source: AnySource, indices: Indices) -> AnySource:
    """The images at `indices`, in that order: a source of the same kind."""
    return source.subset(np.asarray(indices, dtype=np.int64))


def class_counts(source: Source) -> list[int]:
    """Images of each class; with several labels an image counts for each of them."""
    if source.labels.ndim == 2:
        return [int(count) for count in source.labels.sum(axis=0)]
    return [int(count) for count in np.bincount(source.labels, minlength=len(source.classes))]

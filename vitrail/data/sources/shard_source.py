"""Images in shards, by their index: nothing is listed, asked of the file system or decoded before
the first of them is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from vitrail.data.shards.cached_store import MAX_BYTES, CachedStore, fetched, folder_of
from vitrail.data.shards.index import DETAILS, INDEX, LARGE, Index, extents, open_index
from vitrail.data.sources.many_labels import DENSE_CELLS, ManyLabels, as_labels, stacked
from vitrail.data.sources.source import Digests, Hints, Indices, Labels, Source, Splits
from vitrail.errors import DataError
from vitrail.keyed_random import cipher
from vitrail.spelling import count, printable


@dataclass(frozen=True)
class Cache:
    """Where shards of an object store are kept, "" for the user's cache, and how much of them."""

    folder: str = ""
    max_bytes: int = MAX_BYTES


Chosen = range | NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class ShardSource:
    """The images at `rows` of an index. Where there are few of them, what their details say is
    known: the digest and the name of each.
    """

    name: str
    classes: tuple[str, ...]
    index: Index
    rows: Chosen
    labels: Labels
    is_relabelled: bool = False
    images: ClassVar[None] = None
    root: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def indexed(self) -> Self:
        """Itself."""
        return self

    @property
    def digest(self) -> str:
        """The hash of the index."""
        return self.index.digest

    @property
    def num_rows(self) -> int:
        """Of the whole index."""
        return len(self.index)

    def read(self, index: int) -> tuple[bytes, Any]:
        """Bytes and label of one image. Raises DataError VIT-333 where they are not those that were
        indexed.
        """
        row = int(self.rows[index])
        is_mapped = isinstance(self.labels, np.memmap)  # of which every worker would touch all
        label = self.index.label(row) if is_mapped else self.labels[index]
        return self.index.read(row), label

    def source_id(self, index: int) -> str:
        """Shard and name, printable: train-000000.tar#cat/7.jpg."""
        row = int(self.rows[index])
        shard, offset, _, _ = self.index.place(row)
        details = self.index.details
        name = str(offset) if details is None else os.fsdecode(details.name(row))
        return f"{printable(shard.name)}#{printable(name)}"

    def raw_name(self, index: int) -> str:
        """What names it within its dataset: the name that the index has, or shard and place."""
        row = int(self.rows[index])
        details = self.index.details
        if details is not None:
            return os.fsdecode(details.name(row))
        shard, offset, _, _ = self.index.place(row)
        return f"{shard.name}#{offset}"

    def subset(self, indices: Indices) -> Self:
        """The images at `indices`, in that order."""
        rows = _chosen(self.rows, indices)
        labels = self.labels[_run_of(indices)] if isinstance(rows, range) else self.labels[indices]
        return replace(self, rows=rows, labels=labels)

    def relabelled(self, labels: Labels, classes: tuple[str, ...]) -> Self:
        """The same images with other labels."""
        return replace(self, labels=labels, classes=classes, is_relabelled=True)

    def with_digests(self, digests: Digests | None) -> Self:
        """The same images: the index knows their content, or is too large to ask."""
        return self

    def joined(self, others: Sequence[Self], name: str) -> Self:
        """These and then the others, of the same index."""
        pieces = [self, *others]
        rows = np.concatenate([np.asarray(one.rows, np.uint32) for one in pieces])
        labels = stacked([one.labels for one in pieces])
        return replace(self, name=name, rows=rows, labels=labels)

    @cached_property
    def digests(self) -> Digests | None:
        """Of the content of each image, where the index has them."""
        details = self.index.details
        if details is None:
            return None
        if isinstance(self.rows, range):
            return details.digests[self.rows.start : self.rows.stop]
        return details.digests[self.rows]

    @property
    def is_known(self) -> bool:
        """Whether names and digests are looked at, as those of any files."""
        return len(self.index) < LARGE and bool(self.index.record.details)

    def keys(self) -> Iterator[bytes]:
        """Of each image what it is, wherever it stands: its name, or what the index says of it."""
        details = self.index.details
        if details is None:
            places = self.index.places
            return (places[int(row)].tobytes() for row in self.rows)
        return (details.name(int(row)) for row in self.rows)

    def by_shard(self) -> tuple[NDArray[np.uint32], Indices]:
        """The images of each shard after those of another, in the order of their bytes, (n,), and
        where those of each shard end, (S,).
        """
        places = self.index.places[np.asarray(self.rows)]
        order = np.lexsort((places["offset"], places["shard"])).astype(np.uint32)
        counts = np.bincount(places["shard"], minlength=len(self.index.record.shards))
        return order, np.cumsum(counts, dtype=np.int64)

    def size_bytes(self, index: int) -> int:
        """Of its file within the shard."""
        return self.index.place(int(self.rows[index]))[2]

    def hints(self, opened_ns: int) -> Hints:
        """No file system knows of them: zeros."""
        return np.zeros((len(self), 4), np.int64)

    def sampled(self, count: int, purpose: str) -> Indices | None:
        """Of very many images, or without details, some places without a look at all of them; else
        None.
        """
        if self.is_known:
            return None
        places = np.arange(min(count, len(self)), dtype=np.int64)
        return cipher(0, f"sample/{purpose}", 0, len(self), places)

    def equal_to(self) -> Indices | None:
        """For each image the place of the first one with the same content, as the index has it for
        its splits. (n,)
        """
        if not isinstance(self.rows, range):
            return None
        places = np.arange(len(self), dtype=np.int64)
        pairs = np.asarray(self.index.equals) - self.rows.start
        own = pairs[(pairs >= 0).all(axis=1) & (pairs < len(self)).all(axis=1)]
        places[own[:, 0]] = own[:, 1]
        return places

    def identity(self) -> str | None:
        """What tells very many images from others without a look at any; else None."""
        if self.is_known:
            return None
        digest = hashlib.sha256(self.index.digest.encode())
        rows = self.rows
        is_range = isinstance(rows, range)
        digest.update(repr(rows).encode() if is_range else np.ascontiguousarray(rows).tobytes())
        if self.is_relabelled:
            digest.update(repr(self.classes).encode() + _bytes_of(self.labels))
        return digest.hexdigest()


def _bytes_of(labels: Labels) -> bytes:
    if isinstance(labels, ManyLabels):
        return labels.ends.tobytes() + labels.ids.tobytes()
    return np.ascontiguousarray(labels).tobytes()


def _run_of(indices: Indices) -> slice:
    return slice(int(indices[0]), int(indices[-1]) + 1)


def _chosen(rows: Chosen, indices: Indices) -> Chosen:
    """A run of rows stays one: it takes no memory."""
    if isinstance(rows, range):
        if len(indices) and (np.diff(indices) == 1).all():
            return rows[int(indices[0]) : int(indices[-1]) + 1]
        return (np.asarray(indices) + rows.start).astype(np.uint32)
    return rows[indices]


def open_stored(url: str, cache: Cache) -> Splits:
    """The splits of an index in an object store, whose shards are kept on this machine while they
    are used. Raises DataError VIT-303, VIT-331, VIT-335.
    """
    folder = folder_of(url, cache.folder)
    place = os.path.join(folder, "index")
    fetched(url, INDEX, place)
    index = open_index(place)
    record = index.record
    if record.details and len(index) < LARGE:
        fetched(url, DETAILS, place)
    else:
        record = replace(record, details="")
    store = CachedStore(url, os.path.join(folder, "shards"), cache.max_bytes)
    return _splits(replace(index, record=record, store=store), url)


def open_shards(folder: str) -> Splits:
    """The splits of an index in `folder`. Raises DataError VIT-331."""
    return _splits(open_index(folder), folder)


def _splits(index: Index, folder: str) -> Splits:
    record = index.record
    if len(record.classes) < 1 or not len(index):
        raise DataError("VIT-305", f"{printable(folder)} indexes no images.")
    parts: dict[str, Source] = {
        part: ShardSource(f"{folder}:{part}", record.classes, index, rows, labels_of(index, rows))
        for part, rows in extents(index).items()
        if len(rows)
    }
    if "train" not in parts:
        raise DataError("VIT-307", f"{printable(folder)} has no training images.")
    left_out = f"{count(len(record.bad), 'image')} that cannot be decoded left out of the index"
    return Splits(
        name=printable(record.name),
        classes=record.classes,
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        how="",
        kind="files",
        multi_label=record.multi_label,
        notes=(*record.notes, *((f"{left_out}.",) if record.bad else ())),
        index=index.digest,
    )


def labels_of(index: Index, rows: range) -> Labels:
    """The labels of some rows: mapped where they are many, else an array as of any source."""
    ends = index.label_ends
    if ends is None:
        own = index.labels[rows.start : rows.stop]
        return own if len(index) >= LARGE else own.astype(np.int64)
    start = int(ends[rows.start - 1]) if rows.start else 0
    own_ends = np.asarray(ends[rows.start : rows.stop]) - start
    ids = index.labels[start : start + int(own_ends[-1]) if len(own_ends) else start]
    found = ManyLabels(own_ends, np.asarray(ids), len(index.record.classes))
    if len(index) * found.num_classes > DENSE_CELLS:
        return as_labels(found)
    return found.dense(np.arange(len(found)))

"""Which images a run saw, and as what: examples.dat in the folder of the run and of its model.

A row an image: the digest of its content (`data/sources/digest.py`) and its role. In the folder of
a run a row also has the label, the name of the image within its dataset, and what the file system
said of the file: size, times of change of content and of entry, inode, as the index of git keeps
them. Where all of these are as recorded, the content is, and the file is not read again; a file
that was young when it was recorded may have changed within one tick of the clock, so it is read all
the same. In the folder of a model the rows are digests and roles alone, in the order of the
digests: enough to tell whether a model was trained on an image, and neither names nor places. Of
an index of very many images there are roles alone, in the order of the index, and its hash.

The file is a safetensors container of plain numbers with a sha256 over all of them; what is not
whole is refused. About 17 bytes an image for a model, 60 and its name for a run.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vitrail.data.sources.digest import (
    DIGEST_BYTES,
    as_digests,
    digests_of,
    keys_of,
    names_of,
    read_digests,
)
from vitrail.data.sources.many_labels import ManyLabels
from vitrail.data.sources.source import Digests, Hints, Indices, Labels, Source, Splits
from vitrail.data.sources.source import subset as subset_of
from vitrail.folder import Folder

FILE = "examples.dat"
COLUMNS = ("digests", "roles", "labels", "hints")
SCHEMA = 1
MAX_BYTES = 2**31
# "unused": of the data, in no split; "before": trained on by the model that the run starts from.
ROLES = ("train", "val", "test", "unused", "before")
SEEN = ("train", "before")


@dataclass(frozen=True, eq=False)
class Examples:
    """roles (n,) uint8 index ROLES. label_codes (n, L) uint8, names and hints: of a run's own
    record, else empty. is_whole: whether all is known that the weights were ever trained on. index:
    the hash of the index of very many images; digests, codes and hints are then zeros. classes:
    whose numbers the labels are, as data.json of the run has them; () where that is not known.
    """

    digests: Digests
    roles: NDArray[np.uint8]
    label_codes: NDArray[np.uint8] | None = None
    names: tuple[str, ...] = ()
    hints: Hints | None = None
    is_whole: bool = True
    index: str = ""
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.roles)

    def of(self, *roles: str) -> Digests:
        """The digests of the images with one of these roles."""
        return self.digests[np.isin(self.roles, [ROLES.index(role) for role in roles])]

    def holds(self, digests: Digests, *roles: str) -> NDArray[np.bool_]:
        """Whether each of `digests` is that of an image with one of these roles. (m,)"""
        keys = keys_of(digests)
        return np.asarray(np.isin(keys, keys_of(self.of(*roles))) & (keys != b""), np.bool_)

    def shared(self) -> Examples:
        """What goes with the model: digests and roles in the order of the digests."""
        if self.index:
            return self
        kept = np.flatnonzero((self.roles != ROLES.index("unused")) & self.digests.any(axis=1))
        order = kept[np.lexsort((self.roles[kept], keys_of(self.digests[kept])))]
        return Examples(self.digests[order], self.roles[order], is_whole=self.is_whole)

    def to_bytes(self) -> bytes:
        """The file."""
        schema = np.array([SCHEMA, self.is_whole], np.int64)
        if self.index:
            digest = np.frombuffer(bytes.fromhex(self.index), np.uint8)
            told: dict[str, NDArray[np.generic]] = {"schema": schema, "roles": self.roles}
            told["index"] = digest
            return save({**told, "sha256": _checksum(told)})
        tensors: dict[str, NDArray[np.generic]] = {
            "schema": schema,
            "digests": np.ascontiguousarray(self.digests),
            "roles": self.roles,
        }
        if self.label_codes is not None and self.hints is not None:
            text = b"\0".join(map(os.fsencode, self.names))
            tensors |= {"labels": np.ascontiguousarray(self.label_codes), "hints": self.hints}
            tensors["names"] = np.frombuffer(text, np.uint8)
        return save({**tensors, "sha256": _checksum(tensors)})


def _checksum(tensors: Mapping[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}{value.dtype.str}{value.shape}".encode() + value.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def parse(data: bytes) -> Examples:
    """The examples in a file. Raises ValueError saying what is wrong with it."""
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"it is no whole file ({error})") from error
    kinds = {
        "schema": ("int64", 1),
        "digests": ("uint8", 2),
        "roles": ("uint8", 1),
        "labels": ("uint8", 2),
        "hints": ("int64", 2),
        "names": ("uint8", 1),
        "index": ("uint8", 1),
        "sha256": ("uint8", 1),
    }
    least = {"schema", "digests", "roles", "sha256"}
    own, of_run = {"schema", "roles", "index", "sha256"}, set(kinds) - {"index"}
    if set(tensors) not in (least, of_run, own) or any(
        (str(value.dtype), value.ndim) != kinds[name] for name, value in tensors.items()
    ):
        raise ValueError("it is no record of images")
    schema = tensors["schema"]
    if len(schema) != 2 or schema[0] != SCHEMA:
        raise ValueError(f"schema {schema[:1].tolist()}; this version of vitrail knows {SCHEMA}")
    written = tensors.pop("sha256")
    if not np.array_equal(written, _checksum(tensors)):
        raise ValueError("it is damaged: its sha256 differs")
    if "index" in tensors:
        return _of_index(tensors, bool(schema[1]))
    return _checked(tensors, bool(schema[1]))


def _of_index(tensors: Mapping[str, NDArray[np.generic]], is_whole: bool) -> Examples:
    roles, digest = tensors["roles"].astype(np.uint8), tensors["index"].tobytes()
    if (roles >= len(ROLES)).any() or len(digest) != 32:
        raise ValueError("its columns do not fit each other")
    return of_index(roles, digest.hex(), is_whole)


def of_index(roles: NDArray[np.uint8], index: str, is_whole: bool) -> Examples:
    """Of very many images of an index, whose roles these are."""
    n = len(roles)
    digests, hints = np.zeros((n, DIGEST_BYTES), np.uint8), np.zeros((n, 4), np.int64)
    codes = np.zeros((n, 0), np.uint8)
    return Examples(digests, roles, codes, (), hints, is_whole, index)


def _checked(tensors: Mapping[str, NDArray[np.generic]], is_whole: bool) -> Examples:
    needed = COLUMNS if "names" in tensors else COLUMNS[:2]
    if missing := [name for name in needed if name not in tensors]:
        raise ValueError(f"it has no {missing[0]}")
    digests, roles = tensors["digests"].astype(np.uint8), tensors["roles"].astype(np.uint8)
    n = len(roles)
    if digests.shape != (n, DIGEST_BYTES) or (roles >= len(ROLES)).any():
        raise ValueError("its columns do not fit each other")
    if "names" not in tensors:
        return Examples(digests, roles, is_whole=is_whole)
    text = tensors["names"].tobytes()
    names = tuple(map(os.fsdecode, text.split(b"\0"))) if n else ()
    codes, hints = tensors["labels"].astype(np.uint8), tensors["hints"].astype(np.int64)
    if len(names) != n or len(codes) != n or hints.shape != (n, 4):
        raise ValueError("its columns do not fit each other")
    return Examples(digests, roles, codes, names, hints, is_whole)


def read_examples(folder: Path) -> Examples:
    """Those of the run or model in `folder`. Raises ValueError, FileNotFoundError, OSError."""
    return parse(Folder(folder).read(FILE, MAX_BYTES))


def examples_of(splits: Splits, before: Examples | None = None, *, is_whole: bool) -> Examples:
    """The record of a run on `splits`. before: of the model that it starts from."""
    if (of_rows := _roles_of(splits)) is not None:
        return of_index(of_rows, splits.index, is_whole and before is None)
    rows: list[tuple[str, Source]] = [*splits.parts().items()]
    rows += [("unused", source) for source in splits.unused]
    sources = [source for _, source in rows]
    roles = [np.full(len(source), ROLES.index(role), np.uint8) for role, source in rows]
    hints = np.concatenate([source.hints(splits.opened_ns) for source in sources])
    digests = np.concatenate([digests_of(source) for source in sources])
    codes = np.concatenate([codes_of(source.labels) for source in sources])
    names = tuple(name for source in sources for name in names_of(source))
    known = as_digests(b"") if before is None else np.unique(before.of(*SEEN), axis=0)
    more = len(known)
    return Examples(
        np.concatenate([digests, known]),
        np.concatenate([*roles, np.full(more, ROLES.index("before"), np.uint8)]),
        np.concatenate([codes, np.zeros((more, codes.shape[1]), np.uint8)]),
        names + ("",) * more,
        np.concatenate([hints, np.zeros((more, 4), np.int64)]),
        is_whole and (before is None or before.is_whole),
    )


def _roles_of(splits: Splits) -> NDArray[np.uint8] | None:
    """Of every row of an index of very many images, "unused" where it is in no split; else None."""
    whole = splits.train.indexed
    if whole is None or whole.identity() is None:
        return None
    roles = np.full(whole.num_rows, ROLES.index("unused"), np.uint8)
    for role, source in splits.parts().items():
        if (own := source.indexed) is not None:
            rows = own.rows
            taken = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
            roles[taken] = ROLES.index(role)
    return roles


def codes_of(labels: Labels) -> NDArray[np.uint8]:
    """(n, L): a label, or several, as bytes."""
    if isinstance(labels, ManyLabels):
        return labels.codes()
    if labels.ndim == 2:
        return np.packbits(labels > 0, axis=1)
    return np.ascontiguousarray(labels, "<i4").view(np.uint8).reshape(len(labels), 4)


@dataclass(frozen=True, eq=False)
class Pool:
    """All images of a dataset as it lies there now: parts one after another, N in all."""

    parts: tuple[tuple[str, Source], ...]
    digests: Digests
    names: tuple[str, ...]

    @property
    def part_numbers(self) -> Indices:
        """Which of `parts` each image belongs to. (N,)"""
        return np.repeat(np.arange(len(self.parts)), [len(source) for _, source in self.parts])

    def take(self, places: Indices, name: str) -> Source:
        """The images at `places`, in that order, as one source."""
        starts = np.cumsum([0, *(len(source) for _, source in self.parts)])
        of = self.part_numbers[places]
        pieces = [
            subset_of(source, places[of == number] - starts[number])
            for number, (_, source) in enumerate(self.parts)
            if (of == number).any()
        ]
        order = np.argsort(np.argsort(of, kind="stable"), kind="stable")
        if not pieces:
            return subset_of(self.parts[0][1], places)
        return subset_of(joined(pieces, name), order) if len(pieces) > 1 else pieces[0]


def joined(pieces: Sequence[Source], name: str) -> Source:
    """Sources of one dataset, one after another. Raises ValueError for images of other sizes."""
    digests = np.concatenate([digests_of(one) for one in pieces])
    return pieces[0].joined(pieces[1:], name).with_digests(digests)


def pool_of(splits: Splits, record: Examples | None = None) -> Pool:
    """The images of `splits`. With the `record` of a run only files that may have changed since are
    read.
    """
    parts = []
    for part, source in splits.parts().items():
        digests = _digests_beside(source, record, splits.opened_ns)
        parts.append((part, source.with_digests(digests)))
    digests = np.concatenate([digests_of(source) for _, source in parts])
    return Pool(tuple(parts), digests, tuple(n for _, one in parts for n in names_of(one)))


def _digests_beside(source: Source, record: Examples | None, opened_ns: int) -> Digests:
    if (
        source.images is not None
        or source.digests is not None
        or record is None
        or record.hints is None
    ):
        return digests_of(source)
    rows = {name: row for row, name in enumerate(record.names)}
    row_of = np.array([rows.get(name, -1) for name in names_of(source)], np.int64)
    hints = source.hints(opened_ns)
    same = (row_of >= 0) & (hints[:, 0] > 0) & (hints == record.hints[row_of]).all(axis=1)
    found = np.where(same[:, None], record.digests[row_of], 0).astype(np.uint8)
    asked = np.flatnonzero(~same)
    found[asked] = read_digests(source, asked)
    return found


def match(record: Examples, pool: Pool) -> Indices:
    """Where each recorded image lies in `pool`, -1: nowhere. (n,)

    By name where that one has the recorded content; else by content alone, one that lies in the
    split of its role first; no image of the pool is taken twice.
    """
    found = np.full(len(record), -1, np.int64)
    mine, theirs = keys_of(record.digests), keys_of(pool.digests)
    is_free = np.ones(len(theirs), bool)
    if record.names:
        places = {name: place for place, name in enumerate(pool.names)}
        named = np.array([places.get(name, -1) for name in record.names], np.int64)
        exact = (named >= 0) & (mine == theirs[named] if len(theirs) else False)
        found[exact] = named[exact]
        is_free[named[exact]] = False
    waiting: defaultdict[tuple[bytes, str], list[int]] = defaultdict(list)
    rows = np.flatnonzero((found < 0) & (record.roles != ROLES.index("before")) & (mine != b""))
    parts, numbers = [part for part, _ in pool.parts], pool.part_numbers
    for place in np.flatnonzero(is_free & np.isin(theirs, mine[rows]))[::-1]:
        waiting[bytes(theirs[place]), parts[numbers[place]]].append(int(place))
    for own_part in (True, False):
        for row in rows:
            role = ROLES[record.roles[row]]
            for part in parts if found[row] < 0 else ():
                free = waiting.get((bytes(mine[row]), part))
                if free and (part == role) is own_part:
                    found[row] = free.pop()
                    break
    return found

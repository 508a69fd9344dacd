"""The index of shards: where every image lies and what it is, in 24 bytes, made once.

A folder with two files. `index.dat` is mapped: of each image a place (shard, offset, size, crc32 of
its bytes) and a label, or several; and a record with the classes, the splits (rows in the order of
the data, one split after another), the shards with their lengths and sha256, and which images are
equal. `details.dat`, which training opens for small data only, holds the digest of each image and
its name. An index is trusted by its hash; an image by its crc32, each time it is read.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.image_file import MAX_FILE_BYTES
from vitrail.data.shards.columns import Columns, open_columns, write_columns
from vitrail.data.shards.parquet import ParquetStore
from vitrail.data.shards.store import LocalStore, Shard, Store, differs
from vitrail.documents import no_repeats
from vitrail.errors import DataError
from vitrail.spelling import printable

INDEX, DETAILS = "index.dat", "details.dat"
SCHEMA = 1
PLACE = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("size", "<u4"), ("crc", "<u4")])
_PLACE = struct.Struct("<IQII")
MAX_RECORD_BYTES = 2**27
LARGE = 2**18  # images, from which names and digests are not looked at before training
_COLUMNS = {"label_ends?": ("I64", 1), "labels": ("I32", 1), "places": ("U8", 2)}
_COLUMNS |= {"equals": ("I64", 2), "record": ("U8", 1)}
_DETAILS = {"name_ends": ("I64", 1), "digests": ("U8", 2), "names": ("U8", 1)}


@dataclass(frozen=True)
class IndexRecord:
    """What an index says next to its columns. splits: name -> its first row and the one after its
    last; root: of the shards, seen from the folder of the index; column: of the images in Parquet
    files; details: sha256 of that file.
    """

    name: str
    classes: tuple[str, ...]
    multi_label: bool
    splits: dict[str, tuple[int, int]]
    shards: tuple[Shard, ...]
    root: str = ""
    kind: Literal["tar", "parquet"] = "tar"
    column: str = ""
    notes: tuple[str, ...] = ()
    bad: tuple[tuple[str, str], ...] = ()  # images left out: name, reason
    details: str = ""
    made: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}).encode("utf-8", "backslashreplace")


@dataclass(frozen=True, eq=False)
class Rows:
    """The columns of an index while it is made. ends: of the labels of each image, where there are
    several; equals (m, 2): rows of images that are equal to an earlier one of their split, and that
    one; names: of the images within their data, None to write no details.
    """

    places: NDArray[Any]  # (n,) of PLACE
    labels: NDArray[np.int32]
    digests: NDArray[np.uint8]  # (n, 16)
    names: Sequence[str] | None
    equals: NDArray[np.int64]
    ends: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Details:
    """Digests (n, 16) and names of the images of an index."""

    digests: NDArray[np.uint8]
    name_ends: NDArray[np.int64]
    text: NDArray[np.uint8]

    def name(self, row: int) -> bytes:
        """Of one image."""
        start = int(self.name_ends[row - 1]) if row else 0
        return self.text[start : int(self.name_ends[row])].tobytes()


@dataclass(frozen=True, eq=False)
class Index:
    """An open index; folder: where it lies."""

    folder: str
    record: IndexRecord
    columns: Columns
    store: Store

    def __len__(self) -> int:
        return len(self.columns.arrays["places"])

    @property
    def digest(self) -> str:
        """sha256 of the index, hex digits."""
        return self.columns.digest

    @property
    def labels(self) -> NDArray[np.int32]:
        """(n,), or of all images one after another where they have several."""
        return self.columns.arrays["labels"]

    @property
    def label_ends(self) -> NDArray[np.int64] | None:
        """(n,) where the labels of each image end, where they have several."""
        return self.columns.arrays.get("label_ends")

    @property
    def places(self) -> NDArray[Any]:
        """(n,) of PLACE, mapped."""
        return np.asarray(self.columns.arrays["places"]).view(PLACE)[:, 0]

    @property
    def equals(self) -> NDArray[np.int64]:
        """(m, 2): see `Rows`."""
        return self.columns.arrays["equals"]

    @cached_property
    def _own(self) -> tuple[LocalStore, Shard]:
        """The index as a file that is read at places: what is mapped counts as memory of a process
        once it is touched, and every image touches another page.
        """
        return LocalStore(self.folder), Shard(INDEX, self.columns.num_bytes, self.digest)

    def place(self, row: int) -> tuple[Shard, int, int, int]:
        """Shard, offset, size and crc32 of an image. Raises DataError VIT-331, VIT-333."""
        store, own = self._own
        start = self.columns.starts["places"] + row * PLACE.itemsize
        number, offset, size, crc = _PLACE.unpack(store.read(own, start, PLACE.itemsize))
        if number >= len(self.record.shards) or size > MAX_FILE_BYTES:
            raise unreadable(os.path.join(self.folder, INDEX), f"its row {row} is damaged")
        return self.record.shards[number], offset, size, crc

    def label(self, row: int) -> int:
        """Of an image that has one, without a touch of the map."""
        store, own = self._own
        start = self.columns.starts["labels"] + 4 * row
        return int.from_bytes(store.read(own, start, 4), "little")

    def read(self, row: int) -> bytes:
        """The bytes of an image. Raises DataError VIT-333 where they are not those indexed."""
        shard, offset, size, crc = self.place(row)
        data = self.store.read(shard, offset, size)
        if crc_of(data) != crc:
            raise differs(shard.name, f"the image at byte {offset:,} is not the one indexed")
        return data

    @cached_property
    def details(self) -> Details | None:
        """None where the index has none. Raises DataError VIT-331."""
        if not self.record.details:
            return None
        path = Path(self.folder) / DETAILS
        try:
            found = open_columns(path, _DETAILS)
            if found.digest != self.record.details:
                raise ValueError("it belongs to another index")
            digests, ends = found.arrays["digests"], found.arrays["name_ends"]
            if digests.shape != (len(self), 16) or not _are_ends(ends, found.arrays["names"], self):
                raise ValueError("its columns do not fit each other")
        except (OSError, ValueError) as error:
            raise unreadable(str(path), str(error)) from error
        return Details(digests, ends, found.arrays["names"])


def write_index(folder: Path, record: IndexRecord, rows: Rows) -> str:
    """Write both files into an existing folder; the hash of the index."""
    sealed = "" if rows.names is None else _write_details(folder, rows.names, rows.digests)
    told = IndexRecord(**{**record.__dict__, "details": sealed})
    columns: dict[str, NDArray[Any]] = {} if rows.ends is None else {"label_ends": rows.ends}
    columns["labels"] = rows.labels
    columns["places"] = np.ascontiguousarray(rows.places).view(np.uint8).reshape(-1, PLACE.itemsize)
    columns |= {"equals": rows.equals, "record": np.frombuffer(told.to_bytes(), np.uint8)}
    return write_columns(folder / INDEX, columns)


def _write_details(folder: Path, names: Sequence[str], digests: NDArray[np.uint8]) -> str:
    texts = [os.fsencode(name) for name in names]
    details: dict[str, NDArray[Any]] = {
        "name_ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
        "digests": np.ascontiguousarray(digests, np.uint8),
        "names": np.frombuffer(b"".join(texts), np.uint8),
    }
    return write_columns(folder / DETAILS, details)


def open_index(folder: str) -> Index:
    """The index in a folder. Raises DataError VIT-331."""
    path = os.path.join(folder, INDEX)
    try:
        columns = open_columns(Path(path), _COLUMNS)
        arrays = columns.arrays
        if arrays["record"].nbytes > MAX_RECORD_BYTES:
            raise ValueError(f"its record has {arrays['record'].nbytes} bytes")
        record = _record(arrays["record"].tobytes())
        _check(record, columns)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, str(error)) from error
    root = os.path.normpath(os.path.join(folder, record.root)) if record.root else folder
    store = ParquetStore(root, record.column) if record.kind == "parquet" else LocalStore(root)
    return Index(folder, record, columns, store)


def crc_of(content: bytes) -> int:
    """What an index says of the bytes of an image: their crc32."""
    return zlib.crc32(content)


def unreadable(path: str, why: str) -> DataError:
    """An index cannot be used."""
    return DataError(
        "VIT-331",
        f"{printable(path)} cannot be read: {why}.",
        hint="Copy it again, or make it again: vitrail data index SHARDS --out IDX",
    )


def _record(text: bytes) -> IndexRecord:
    """Raises ValueError."""
    try:
        found = json.loads(text, object_pairs_hook=no_repeats)
        schema = found.pop("schema")
        if schema != SCHEMA:
            raise ValueError(f"schema {schema}; this version of vitrail knows {SCHEMA}")
        splits = {str(name): (int(a), int(b)) for name, (a, b) in found.pop("splits").items()}
        shards = tuple(Shard(str(a), int(b), str(c)) for a, b, c in found.pop("shards"))
        classes = tuple(str(name) for name in found.pop("classes"))
        bad = tuple((str(name), str(why)) for name, why in found.pop("bad"))
        notes = tuple(map(str, found.pop("notes")))
        known = {"name", "multi_label", "root", "kind", "column", "details", "made"}
        if set(found) != known or not isinstance(found["multi_label"], bool):
            raise ValueError("its record has other fields")
        return IndexRecord(
            classes=classes, splits=splits, shards=shards, bad=bad, notes=notes, **found
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("its record is damaged") from error


def _check(record: IndexRecord, columns: Columns) -> None:
    """Raises ValueError where the columns do not fit the record."""
    arrays = columns.arrays
    n, labels, ends = len(arrays["places"]), arrays["labels"], arrays.get("label_ends")
    fits = arrays["places"].shape[1] == PLACE.itemsize and arrays["equals"].shape[1:] == (2,)
    fits &= (ends is not None) == record.multi_label
    fits &= len(labels) == n if ends is None else _are_ends(ends, labels, arrays["places"])
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if not fits or low < 0 or high >= max(1, len(record.classes)):
        raise ValueError("its columns do not fit each other")
    stop = 0
    for name, (first, last) in record.splits.items():
        if name not in ("train", "val", "test") or first != stop or last < first:
            raise ValueError("its splits do not fit its rows")
        stop = last
    if stop != n or "train" not in record.splits or record.kind not in ("tar", "parquet"):
        raise ValueError("its splits do not fit its rows")
    for shard in record.shards:
        parts = shard.name.replace("\\", "/").split("/")
        if not shard.name or "" in parts or ".." in parts or "\0" in shard.name:
            raise ValueError(f"the name of a shard, {printable(shard.name)}, leads elsewhere")


def _are_ends(ends: NDArray[np.int64], ended: NDArray[Any], rows: Any) -> bool:
    """Whether `ends` (n,) rise to the length of what they end."""
    last = int(ends[-1]) if len(ends) else 0
    rising = bool((np.diff(ends, prepend=0) >= 0).all())
    return len(ends) == len(rows) and rising and last == len(ended)


def extents(index: Index) -> Mapping[str, range]:
    """The rows of each split."""
    return {name: range(*ends) for name, ends in index.record.splits.items()}

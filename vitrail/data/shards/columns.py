"""A file of plain columns that is mapped into memory: safetensors with a hash over all of it.

The last column, "sha256", is the hash of every byte before it. A file is hashed when it is opened,
through the descriptor that is then mapped; what differs, and whatever its header promises that the
file does not hold, is refused. Nothing of it is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vitrail.folder import open_plain

KINDS = {"U8": "<u1", "I32": "<i4", "I64": "<i8"}
SEAL = "sha256"
MAX_HEADER_BYTES = 2**16
_PIECE = 2**22

Column = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns by name, mapped; where the bytes of each begin in the file; the file's hash."""

    arrays: Mapping[str, Column]
    starts: Mapping[str, int]
    digest: str
    num_bytes: int


def write_columns(path: Path, columns: Mapping[str, Column]) -> str:
    """Write columns of uint8, int32 or int64, in their order; the hash, as hex digits."""
    names = {np.dtype(kind): name for name, kind in KINDS.items()}
    header: dict[str, Any] = {}
    end = 0
    for name, column in (*columns.items(), (SEAL, np.zeros(32, np.uint8))):
        start, end = end, end + column.nbytes
        kind = names[column.dtype.newbyteorder("<")]
        header[name] = {"dtype": kind, "shape": column.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for piece in (struct.pack("<Q", len(text)) + text, *columns.values()):
            data = piece if isinstance(piece, bytes) else np.ascontiguousarray(piece).data
            digest.update(data)
            stream.write(data)
        stream.write(digest.digest())
    return digest.hexdigest()


def open_columns(path: Path, expected: Mapping[str, tuple[str, int]]) -> Columns:
    """Map a file. expected: of each column its kind and number of dimensions; those whose name
    ends in "?" may be missing. Raises ValueError saying what is wrong with it, OSError.
    """
    with os.fdopen(open_plain(path, links=True), "rb") as stream:
        num_bytes = os.fstat(stream.fileno()).st_size
        base, header = _header(stream, num_bytes)
        digest = _sealed(stream, num_bytes)
        _check_names(header, expected)
        arrays: dict[str, Column] = {}
        starts = {}
        for name, entry in header.items():
            shape = tuple(entry["shape"])
            starts[name] = base + int(entry["data_offsets"][0])
            dtype = np.dtype(KINDS[entry["dtype"]])
            arrays[name] = (
                np.memmap(stream, dtype, "r", starts[name], shape)
                if math.prod(shape)
                else np.zeros(shape, dtype)
            )
    return Columns(arrays, starts, digest, num_bytes)


def _header(stream: BinaryIO, num_bytes: int) -> tuple[int, dict[str, Any]]:
    """Where the columns begin, and what the header says of each."""
    first = stream.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 0 < length <= min(MAX_HEADER_BYTES, num_bytes):
        raise ValueError("it is no file of columns")
    try:
        header = json.loads(stream.read(length))
        entries = [(name, *_entry(entry)) for name, entry in header.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("it is no file of columns") from error
    end = 0
    for name, count, start, stop in entries:
        if start != end or stop != start + count:
            raise ValueError(f"the places of its column {name!r} do not fit")
        end = stop
    if 8 + length + end != num_bytes:
        raise ValueError(f"{num_bytes} bytes; its header says {8 + length + end}")
    if not entries or entries[-1][0] != SEAL or entries[-1][1] != 32:
        raise ValueError("it has no hash")
    return 8 + length, header


def _entry(entry: Any) -> tuple[int, int, int]:
    """Bytes of a column, its begin and end. Raises ValueError, TypeError, KeyError."""
    shape, (start, stop) = entry["shape"], entry["data_offsets"]
    numbers = [*shape, start, stop]
    if not all(type(one) is int and 0 <= one < 2**62 for one in numbers) or len(shape) > 2:
        raise ValueError("numbers of a column")
    return math.prod(shape) * np.dtype(KINDS[entry["dtype"]]).itemsize, start, stop


def _sealed(stream: BinaryIO, num_bytes: int) -> str:
    """The hash of the file. Raises ValueError where it is not the one at its end."""
    digest, place, end = hashlib.sha256(), 0, num_bytes - 32
    while place < end and (piece := os.pread(stream.fileno(), min(_PIECE, end - place), place)):
        digest.update(piece)
        place += len(piece)
    if os.pread(stream.fileno(), 32, end) != digest.digest():
        raise ValueError("it is damaged: its sha256 differs")
    return digest.hexdigest()


def _check_names(header: Mapping[str, Any], expected: Mapping[str, tuple[str, int]]) -> None:
    known = {name.rstrip("?"): kind for name, kind in expected.items()} | {SEAL: ("U8", 1)}
    needed = {name for name in expected if not name.endswith("?")} | {SEAL}
    if not needed <= set(header) <= set(known):
        raise ValueError(f"its columns are {', '.join(map(repr, header))}")
    for name, entry in header.items():
        if (entry["dtype"], len(entry["shape"])) != known[name]:
            raise ValueError(f"its column {name!r} is of another kind")

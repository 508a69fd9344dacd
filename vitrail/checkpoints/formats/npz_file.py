"""Tensors of an .npz file (NumPy's format 1 to 3 inside a zip file), one at a time.

The header of an array is a Python literal; it is read by a pattern, not by an evaluator, and arrays
of objects are refused by their type. bfloat16, which NumPy does not know, is stored as two raw
bytes ("V2") or as uint16 (big_vision).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from torch import Tensor

from vitrail.checkpoints.formats.limits import (
    MAX_DIMS,
    check_count,
    check_float,
    check_header,
    damaged,
    num_bytes,
    shown,
)
from vitrail.checkpoints.formats.open_file import OpenFile, empty_values
from vitrail.checkpoints.formats.zip_directory import ZipEntry, fill_from, member_bytes
from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.checkpoints.mapping.scratch import Memory
from vitrail.errors import ModelError

LONGEST_HEAD = 4096  # bytes; NumPy writes 118 to 200 for arrays of numbers
DTYPES = {
    "<f8": "F64",
    "<f4": "F32",
    "<f2": "F16",
    "|V2": "BF16",
    "<V2": "BF16",
    "<u2": "BF16",
    "<i8": "I64",
    "<i4": "I32",
    "<i2": "I16",
    "|i1": "I8",
    "<u8": "U64",
    "<u4": "U32",
    "|u1": "U8",
    "|b1": "BOOL",
    "<c8": "C64",
}
HEAD = re.compile(
    rb"\{\s*'descr':\s*'([^']{1,40})',\s*'fortran_order':\s*(True|False),\s*"
    rb"'shape':\s*\(([0-9, ]{0,200})\),?\s*\}\s*"
)


class NpzFile:
    """An open .npz file. Raises ModelError VIT-411 or VIT-412 for what no model has."""

    def __init__(self, file: OpenFile, members: dict[str, ZipEntry], max_bytes: int) -> None:
        self.file = file
        check_count(file.name, len(members))
        self.members = {name.removesuffix(".npy"): item for name, item in members.items()}
        shapes: dict[str, Shape] = {}
        dtypes: dict[str, str] = {}
        self.heads: dict[str, int] = {}
        self.by_column: set[str] = set()
        for name, member in self.members.items():
            kind, shape, is_by_column, head = _read_head(file, name, member)
            shapes[name], dtypes[name], self.heads[name] = shape, kind, head
            if is_by_column:
                self.by_column.add(name)
            if head + num_bytes(kind, shape) != member.size:
                raise damaged(
                    file.name,
                    f"{shown(name)} {shape} has {member.size - head} bytes; expected "
                    f"{num_bytes(kind, shape)}",
                )
        check_header(file.name, shapes, dtypes, max_bytes)
        self.header = Header(file.name, shapes, dtypes)

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file. Raises ModelError VIT-412."""
        check_float(self.header, name)
        shape = self.header.shapes[name]
        member, head = self.members[name], self.heads[name]
        values, room = empty_values(
            self.header.dtypes[name], (member.size - head) // _width(self.header, name), memory
        )
        fill_from(self.file, member, head, room)
        if name in self.by_column:
            return values.reshape(shape[::-1]).permute(*range(len(shape))[::-1])
        return values.reshape(shape)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def _width(header: Header, name: str) -> int:
    return num_bytes(header.dtypes[name], ())


def _read_head(file: OpenFile, name: str, member: ZipEntry) -> tuple[str, Shape, bool, int]:
    """Type, shape, whether it is stored by columns, and the bytes before the values."""
    start = member_bytes(file, member, LONGEST_HEAD)
    if not start.startswith(b"\x93NUMPY") or len(start) < 12:
        raise damaged(file.name, f"{shown(name)} is no array")
    size, place = (
        (struct.unpack_from("<H", start, 8)[0], 10)
        if start[6] == 1
        else (struct.unpack_from("<I", start, 8)[0], 12)
    )
    found = HEAD.fullmatch(start[place : place + size])
    if start[6] not in (1, 2, 3) or place + size > len(start) or not found:
        if b"'O'" in start or b"|O" in start:
            raise _objects(file.name, name)
        raise damaged(file.name, f"{shown(name)} has a header that no array of numbers has")
    kind = found[1].decode("ascii", "replace")
    if "O" in kind:
        raise _objects(file.name, name)
    if kind not in DTYPES:
        raise damaged(file.name, f"{shown(name)} has numbers of type {kind!r}")
    numbers = [part for part in found[3].replace(b" ", b"").split(b",") if part]
    if len(numbers) > MAX_DIMS or any(len(part) > 18 for part in numbers):
        raise damaged(file.name, f"{shown(name)} has an absurd shape")
    return DTYPES[kind], tuple(map(int, numbers)), found[2] == b"True", place + size


def _objects(file: str, name: str) -> ModelError:
    return ModelError(
        "VIT-402",
        f"{file}: {shown(name)} is an array of Python objects (it can run code when opened).",
        hint="Save the arrays as numbers: numpy.savez with float32 arrays.",
    )


def is_npz(members: dict[str, ZipEntry]) -> bool:
    """Whether a zip file with these members is an .npz."""
    return bool(members) and all(Path(name).suffix == ".npy" for name in members)

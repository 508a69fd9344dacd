"""The table of a zip file (PKWARE APPNOTE 4.3), for .npz and .pth: where each member lies.

Python's zipfile makes an object for each of ten million entries before one can count them, and
knows no way to read a stored member into memory that is there already.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from vitrail.checkpoints.formats.limits import MAX_NAME, MAX_TENSORS, damaged, shown, too_much
from vitrail.checkpoints.formats.open_file import OpenFile
from vitrail.errors import ModelError
from vitrail.unpacking import TooTight, check_ratio, zip_end

MAX_DIRECTORY = MAX_TENSORS * (46 + 200)  # bytes: an entry has 46 and a name
STORED, DEFLATED = 0, 8
PIECE = 2**20


class ZipEntry(NamedTuple):
    """offset: of its own header in the file; size: unpacked; packed: as stored; in bytes."""

    offset: int
    size: int
    packed: int
    method: int
    crc: int


def read_directory(file: OpenFile) -> dict[str, ZipEntry]:
    """Every member by name, its place inside the file and free of overlaps.

    Raises ModelError VIT-411 for more than any model has, VIT-412 for a damaged file.
    """
    try:
        count, size, offset = zip_end(file.bytes_at, file.size)
    except ValueError as error:
        raise damaged(file.name, str(error)) from error
    if size > MAX_DIRECTORY:
        raise too_much(
            file.name,
            f"a table of {size} bytes, about {max(count, size // 64)} members",
            f"{MAX_TENSORS:,} members",
        )
    if offset + size > file.size:
        raise damaged(file.name, f"it ends before byte {offset + size}")
    members = _entries(file, file.bytes_at(offset, size))
    _check_room(file, members, offset)
    return members


def member_bytes(file: OpenFile, member: ZipEntry, count: int) -> bytes:
    """The first `count` bytes of a member, fewer where it is shorter. For what is small."""
    count = min(count, member.size)
    start = data_offset(file, member)
    if member.method == STORED:
        return file.bytes_at(start, count)
    packed = file.bytes_at(start, min(member.packed, count + 4096))
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, count)
    except zlib.error as error:
        raise damaged(file.name, f"a packed member cannot be unpacked ({error})") from error


def fill_from(
    file: OpenFile, member: ZipEntry, head: int, buffer: memoryview, *, check: bool = True
) -> None:
    """What follows the first `head` bytes of a member, all of it. Raises ModelError VIT-412 where
    it has another length or, with `check`, another checksum.
    """
    if head + len(buffer) != member.size:
        raise damaged(file.name, f"a member has {member.size} bytes, not {head + len(buffer)}")
    start = data_offset(file, member)
    if member.method == STORED:
        file.fill(start + head, buffer)
        crc = zlib.crc32(buffer, zlib.crc32(file.bytes_at(start, head))) if check else member.crc
    else:
        crc = _unpack(file, start, member, head, buffer)
    if crc != member.crc:
        raise damaged(file.name, "the checksum of a member differs")


def _unpack(file: OpenFile, start: int, member: ZipEntry, head: int, buffer: memoryview) -> int:
    """Fill `buffer` in pieces; the checksum of the whole member."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    place, done, crc, rest = start, -head, 0, b""
    try:
        while done < len(buffer):
            if not rest:
                rest = file.bytes_at(place, min(PIECE, start + member.packed - place))
                place += len(rest)
                if not rest:
                    raise damaged(file.name, "a packed member ends too early")
            part = unpacker.decompress(rest, min(PIECE, len(buffer) - done) or 1)
            rest = unpacker.unconsumed_tail
            crc = zlib.crc32(part, crc)
            kept = part[max(0, -done) :]
            buffer[max(0, done) : max(0, done) + len(kept)] = kept
            done += len(part)
    except zlib.error as error:
        raise damaged(file.name, f"a packed member cannot be unpacked ({error})") from error
    return crc


def _entries(file: OpenFile, table: bytes) -> dict[str, ZipEntry]:
    members: dict[str, ZipEntry] = {}
    place = 0
    while place < len(table):
        if len(table) - place < 46 or table[place : place + 4] != b"PK\x01\x02":
            raise damaged(file.name, "the table of a zip file cannot be read")
        flags, method, crc, packed, size, name_len, extra_len, comment_len, offset = (
            struct.unpack_from("<8xHH4xIIIHHH8xI", table, place)
        )
        place += 46
        name = table[place : place + name_len].decode("utf-8", "backslashreplace")
        extra = table[place + name_len : place + name_len + extra_len]
        place += name_len + extra_len + comment_len
        if 0xFFFFFFFF in (packed, size, offset):
            packed, size, offset = _large(file, extra, packed, size, offset)
        if name in members:
            raise damaged(file.name, f"{shown(name)} is in it twice")
        if len(name) > MAX_NAME:
            raise too_much(file.name, f"a name of {len(name)} characters", f"{MAX_NAME}")
        if flags & 1 or method not in (STORED, DEFLATED):
            raise ModelError(
                "VIT-412",
                f"{file.name}: {shown(name)} is encrypted or packed by method {method}.",
                hint="Pack it again with deflate, or not at all.",
            )
        members[name] = ZipEntry(offset, size, packed, method, crc)
    return members


def _large(
    file: OpenFile, extra: bytes, packed: int, size: int, offset: int
) -> tuple[int, int, int]:
    """Sizes and offset above 4 GB, from the extra field 1, where the short ones are all ones."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1 and len(extra) >= 4 + length:
            numbers = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            try:
                size = next(numbers) if size == 0xFFFFFFFF else size
                packed = next(numbers) if packed == 0xFFFFFFFF else packed
                offset = next(numbers) if offset == 0xFFFFFFFF else offset
            except StopIteration as error:
                raise damaged(file.name, "the table of a zip file lacks a size") from error
            return packed, size, offset
        extra = extra[4 + length :]
    return packed, size, offset


def _check_room(file: OpenFile, members: dict[str, ZipEntry], end: int) -> None:
    """Members lie before the table, beside each other, and do not unpack to absurd sizes."""
    if sum(30 + item.packed for item in members.values()) > end:
        raise damaged(file.name, "its members overlap or lie beyond its end")
    for name, item in members.items():
        if item.offset + 30 + item.packed > end:
            raise damaged(file.name, f"{shown(name)} lies beyond its end")
        if item.method == STORED and item.size != item.packed:
            raise damaged(file.name, f"{shown(name)} has two sizes")
    unpacked = sum(item.size for item in members.values())
    try:
        check_ratio(unpacked, file.size)
    except TooTight as error:
        raise too_much(file.name, str(error)) from error


def data_offset(file: OpenFile, member: ZipEntry) -> int:
    """Where the values begin: behind the member's own header, whose lengths may differ."""
    head = file.bytes_at(member.offset, 30)
    if len(head) < 30 or not head.startswith(b"PK\x03\x04"):
        raise damaged(file.name, "a member is not where the table says")
    name_len, extra_len = struct.unpack_from("<26xHH", head)
    start = member.offset + 30 + int(name_len) + int(extra_len)
    if start + member.packed > file.size:
        raise damaged(file.name, f"it ends before byte {start + member.packed}")
    return start

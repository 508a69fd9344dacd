"""Tar archives: the members of one, found by its headers alone, and headers of new ones.

Only headers are read and nothing is ever extracted. A name is a label and never a path. Known are
ustar with prefixes, GNU long names and sizes, and PAX records for names and sizes (POSIX.1-2017,
pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"). Everything else than plain
files and folders is refused, and so is an archive that is packed, cut off, or says of a member that
it is larger than the archive.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from vitrail.spelling import printable

BLOCK = 512
MAX_MEMBERS = 500_000  # of an archive; a shard of 256 MB holds some ten thousand
MAX_NAME_BYTES = 4096
MAX_RECORD_BYTES = 2**16  # of PAX records before a member
_PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"K": "a link",
    b"M": "a part of a file",
}


class TarFault(ValueError):
    """An archive is refused; the text is the reason, for people."""


class Member(NamedTuple):
    """A plain file of an archive: where its content lies."""

    name: str
    offset: int
    size: int


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


def members(file: int) -> Iterator[Member]:
    """The plain files of the archive behind a descriptor, in order. Raises TarFault, OSError."""
    end = os.fstat(file).st_size
    place, count = 0, 0
    name, size = "", -1  # of the next member, where records say so
    while block := _block(file, place, end):
        header = _parsed(block, place)
        place += BLOCK
        if header.kind in b"xgL":
            text = _record(file, place, end, header)
            if header.kind == b"L":
                name = _text(text.partition(b"\0")[0])
            elif header.kind == b"x":
                name, size = _pax(text, name, size)
            place += _padded(header.size)
            continue
        count += 1
        if count > MAX_MEMBERS:
            raise TarFault(f"more than {MAX_MEMBERS:,} members")
        found = Member(name or header.name, place, header.size if size < 0 else size)
        _check(found, header, end)
        name, size = "", -1
        place += _padded(found.size)
        if header.kind in b"0\0" and not found.name.endswith("/"):
            yield found


def _block(file: int, place: int, end: int) -> bytes:
    """The header at `place`; b"" at the mark of the end."""
    block = os.pread(file, BLOCK, place)
    if place == 0 and (packed := _PACKED.get(block[:2])):
        raise TarFault(f"it is packed with {packed}; places in it cannot be read: unpack it")
    if len(block) < BLOCK:
        raise TarFault("it is cut off" if place else "it is no tar archive")
    return block if block.strip(b"\0") else b""


def _parsed(block: bytes, place: int) -> _Header:
    checksum = sum(block) - sum(block[148:156]) + 8 * 32
    try:
        told, size = _number(block[148:156]), _number(block[124:136])
    except ValueError:
        told, size = -1, 0
    if told != checksum or size < 0:
        where = f"its header at byte {place} is damaged" if place else "it is no tar archive"
        raise TarFault(where)
    name = block[:100].partition(b"\0")[0]
    is_ustar = block[257:263] == b"ustar\0"
    prefix = block[345:500].partition(b"\0")[0] if is_ustar else b""
    return _Header(_text(prefix + b"/" + name if prefix else name), size, block[156:157])


def _number(field: bytes) -> int:
    """An octal number, or one of GNU's in base 256. Raises ValueError."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    return int(field.strip(b" \0") or b"0", 8)


def _text(name: bytes) -> str:
    return os.fsdecode(name[:MAX_NAME_BYTES])


def _record(file: int, place: int, end: int, header: _Header) -> bytes:
    if header.size > min(MAX_RECORD_BYTES, end - place):
        raise TarFault(f"a record of {header.size} bytes before a member; limit {MAX_RECORD_BYTES}")
    text = os.pread(file, header.size, place)
    if header.kind == b"g" and (b" path=" in text or b" size=" in text):
        raise TarFault("a record renames all members")
    return text


def _pax(text: bytes, name: str, size: int) -> tuple[str, int]:
    """Name and size out of PAX records: "30 path=a/b.jpg\\n"."""
    while text:
        length, space, _ = text.partition(b" ")
        if not space or not length.isdigit() or not len(length) + 1 < int(length) <= len(text):
            raise TarFault("a record before a member is damaged")
        key, _, value = text[len(length) + 1 : int(length) - 1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise TarFault("it holds a sparse file")
        if key == b"path":
            name = _text(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise TarFault("a record before a member is damaged")
            size = int(value)
        text = text[int(length) :]
    return name, size


def _check(member: Member, header: _Header, end: int) -> None:
    shown = printable(member.name)
    if header.kind not in b"0\x005":
        raise TarFault(f"{shown} is {_REFUSED.get(header.kind, 'of an unknown kind')}")
    if not member.name or member.name.startswith(("/", "\\")) or _climbs(member.name):
        raise TarFault(f"the name {shown} leads out of the archive")
    if member.size > end - member.offset:
        left = max(0, end - member.offset)
        raise TarFault(f"{shown} claims {member.size} bytes; {left} are there")


def _climbs(name: str) -> bool:
    return ".." in name.replace("\\", "/").split("/")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def header_of(name: str, size: int) -> bytes:
    """The header of a plain file: ustar, without owner and time, so that equal content gives equal
    archives. Names of at most 100 letters of ASCII, sizes below 8 GiB.
    """
    block = bytearray(BLOCK)
    block[:100] = name.encode("ascii").ljust(100, b"\0")
    block[100:148] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    block[148:156] = b" " * 8
    block[156:157] = b"0"
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padding_of(size: int) -> bytes:
    """What follows the content of a member."""
    return b"\0" * (_padded(size) - size)


END = b"\0" * (2 * BLOCK)

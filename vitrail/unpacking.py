"""One rule for everything that is unpacked: how much may come out of how little (promise M9).

Data (`.npz`, IDX in `.gz`), model folders in a `.zip` and checkpoints (`.pth`, `.npz`) are noise or
nearly so: they do not pack to a hundredth. A file that claims more is refused before a byte of it
is unpacked, and what comes out is cut at what was claimed. Small files may be packed as tight as
they like: labels are.
"""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, Final, NamedTuple

SMALL_BYTES: Final = 64 * 2**20
MAX_RATIO: Final = 100
MAX_MEMBERS: Final = 50_000
MAX_DIRECTORY_BYTES: Final = MAX_MEMBERS * (46 + 200)  # an entry has 46 and a name
END, END64, LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
LARGEST_COMMENT = 65_535

# What zipfile, and the decompressors under it, raise for a damaged, encrypted or unknown member.
ZIP_FAULTS: Final = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)


class TooTight(ValueError):
    """A file unpacks to more than any honest one; the text is the reason, for people."""


def check_ratio(unpacked: int, packed: int) -> None:
    """Raise TooTight where `unpacked` bytes come out of a file of `packed` bytes."""
    if unpacked > max(SMALL_BYTES, MAX_RATIO * packed):
        raise TooTight(
            f"{unpacked} bytes packed into {packed}; limit {MAX_RATIO} times its size, or "
            f"{SMALL_BYTES} bytes"
        )


@contextmanager
def open_zip(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """A zip file whose table promises no more than `check_ratio` allows.

    Raises TooTight, and one of ZIP_FAULTS for what is no zip file. Python makes an
    object of each entry, so their number is looked at first.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            end = zip_end(lambda place, count: _piece(file, place, min(count, size - place)), size)
        except ValueError as error:
            raise zipfile.BadZipFile(str(error)) from error
        if end.size > MAX_DIRECTORY_BYTES:
            raise TooTight(f"a table of more than {MAX_DIRECTORY_BYTES} bytes")
        with zipfile.ZipFile(file) as archive:
            check_ratio(sum(item.file_size for item in archive.infolist()), size)
            yield archive


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A file for reading; a pipe or device in its place is refused instead of waited for. Raises
    OSError.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.ENXIO, "it is no regular file", os.fspath(path))
    return os.fdopen(handle, "rb")


def _piece(file: BinaryIO, place: int, count: int) -> bytes:
    return os.pread(file.fileno(), count, place) if count > 0 else b""


class ZipEnd(NamedTuple):
    """Members of a zip file; bytes of their table, and where it begins."""

    members: int
    size: int
    offset: int


def zip_end(read: Callable[[int, int], bytes], size: int) -> ZipEnd:
    """What the end of a zip file of `size` bytes says of its table (PKWARE APPNOTE 4.3.14 to 16).

    read: some bytes from a place on. Raises ValueError where there is no such end.
    """
    tail = read(max(0, size - LARGEST_COMMENT - 22), LARGEST_COMMENT + 22)
    place = tail.rfind(END)
    if place < 0 or place + 22 > len(tail):
        raise ValueError("the table at the end of a zip file is missing")
    end = ZipEnd(*struct.unpack_from("<10xHII", tail, place))
    locator = tail[max(0, place - 20) : place]
    is_large = end.members == 0xFFFF or 0xFFFFFFFF in end
    if not is_large or len(locator) < 20 or not locator.startswith(LOCATOR64):
        return end
    record = read(struct.unpack_from("<8xQ", locator)[0], 56)
    if len(record) < 56 or not record.startswith(END64):
        raise ValueError("the large table of a zip file is missing")
    return ZipEnd(*struct.unpack_from("<32xQQQ", record))


@contextmanager
def open_plain_or_gzip(path: str) -> Iterator[Packed]:
    """A file, unpacked where its name ends in .gz. Raises OSError."""
    with open_regular(path) as file:
        if not path.endswith(".gz"):
            yield Packed(file, 0)
            return
        packed = os.fstat(file.fileno()).st_size
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield Packed(unpacked, packed)


class Packed:
    """A stream that is read once, never further than `check_ratio` allows. packed: bytes of the
    file, 0 where nothing is unpacked.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, packed: int) -> None:
        self._stream, self._packed, self._done = stream, packed, 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises TooTight, OSError, EOFError, zlib.error."""
        if self._packed:
            check_ratio(self._done + size, self._packed)
        data = self._stream.read(size)
        self._done += len(data)
        return data

"""The first directory of a TIFF (TIFF 6.0, section 2; BigTIFF): how much work its parts are.

Pillow makes a Python object for every strip and tile, and libtiff unpacks each of them in one call
that nothing can stop. So the number of parts, their sizes and what they are packed into are looked
at first.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.decode_cost import STOP_SECS, Load, TooCostly, reads_of
from vitrail.spelling import count

MAX_ENTRIES: Final = 4_096
MAX_PARTS: Final = 65_536  # strips of one row: 16,384 rows in four planes
FREE_PARTS: Final = 1_000
PART_PIXELS: Final = 128  # of a tile; the standard's smallest has 16 x 16
MAX_VALUES: Final = 200_000  # of one tag; a colour map has 196,608
MAX_FRACTIONS: Final = 10_000  # of one tag: each becomes an object
TILE_PIXELS: Final = 2**22  # tiles of an image that is smaller than they are
SLACK_BYTES: Final = 65_536
PART_BYTES: Final = 1_024  # what a packer adds to a part
UNCHECKED_DEFLATE: Final = 4 * 2**20  # a stream of empty blocks takes 0.13 s a MiB
MAX_ZSTD_BYTES: Final = 16 * 2**20  # likewise, and nothing here can look into it
PIECE: Final = 65_536
RAW, OLD_JPEG, JPEG, DEFLATE, OLD_DEFLATE, LZMA, ZSTD = 1, 6, 7, 8, 32946, 34925, 50000

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8"}
_OFFSETS, _COUNTS = (273, 324), (279, 325)
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class _Directory:
    """The entries of a directory: tag -> (type, count, place of its values)."""

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]

    def numbers(self, tag: int) -> Numbers:
        """The whole numbers of a tag; none where it is absent or lies outside the file."""
        kind, count, place = self.entries.get(tag, (0, 0, 0))
        if kind not in _INTEGERS or place + count * _SIZES[kind] > len(self.data):
            return np.zeros(0, np.int64)
        found = np.frombuffer(self.data, self.order + _INTEGERS[kind], count, place)
        return found.astype(np.int64)

    def number(self, *tags: int, default: int = 0) -> int:
        """The first number of the first of `tags` that there is."""
        return next((int(found[0]) for tag in tags if len(found := self.numbers(tag))), default)


def tiff_load(data: bytes) -> Load:
    """The load of a TIFF. Raises TooCostly."""
    directory = _directory(data)
    _check_values(directory)
    width, height = directory.number(256), directory.number(257)
    bits = int(directory.numbers(258).sum()) or 1
    samples = directory.number(277, default=1)
    if len(directory.numbers(258)) < samples:
        bits *= samples
    method = directory.number(259, default=RAW)
    planes = samples if directory.number(284, default=1) == 2 else 1
    _check_parts(directory, width * height // PART_PIXELS, height, planes)
    part, unpacked = _parts(directory, width, height, planes)
    packed = _packed_bytes(directory, unpacked * bits / 8 / planes, method)
    _check_method(directory, method, packed)
    is_jpeg = method in (JPEG, OLD_JPEG)
    scans = _num_scans(data) if is_jpeg else 0
    rate = 2 if method == RAW else 4 * bits / 8 + 10 * is_jpeg
    return Load(
        f"TIFF with {scans} JPEG scans" if scans else "TIFF",
        10.0 + 30.0 * (samples in (2, 4)) + 20.0 * (bits == 16),
        8.0,  # turned by Pillow: twice in memory
        ns=unpacked * rate + packed * 3.0 + scans * part * 1.5,
        bytes=len(data) + part * (bits / 8 + 6 * bool(scans)) + 32e6,
        max_reads=reads_of(len(data)) + MAX_PARTS,
    )


def _directory(data: bytes) -> _Directory:
    order = "<" if data[:2] == b"II" else ">"
    name = "little" if order == "<" else "big"
    is_big = data[2:4] in (b"\x2b\x00", b"\x00\x2b")
    width = 8 if is_big else 4  # of offsets
    at = int.from_bytes(data[8:16] if is_big else data[4:8], name)  # type: ignore[arg-type]
    head = 8 if is_big else 2
    num_entries = int.from_bytes(data[at : at + head], name)  # type: ignore[arg-type]
    if num_entries > MAX_ENTRIES:
        raise TooCostly(
            f"TIFF with {count(num_entries, 'entry')} in its directory; limit {MAX_ENTRIES}"
        )
    kind = np.dtype(
        [
            ("tag", order + "u2"),
            ("type", order + "u2"),
            ("count", f"{order}u{width}"),
            ("value", f"{order}u{width}"),
        ]
    )
    room = max(0, len(data) - at - head) // kind.itemsize
    table = np.frombuffer(data, kind, min(num_entries, room), at + head if room else 0)
    entries: dict[int, tuple[int, int, int]] = {}
    for number, row in enumerate(table):
        tag, form, values = int(row["tag"]), int(row["type"]), int(row["count"])
        inside = at + head + kind.itemsize * number + 4 + width
        fits = values * _SIZES.get(form, 1) <= width
        entries.setdefault(tag, (form, values, inside if fits else int(row["value"])))
    return _Directory(data, order, entries)


def _check_values(directory: _Directory) -> None:
    for tag, (kind, number, _) in directory.entries.items():
        if kind in (1, 2, 7) or number * _SIZES.get(kind, 1) > len(directory.data):
            continue  # kept as bytes, or left out by the decoder
        limit = MAX_FRACTIONS if kind in (5, 10, 11, 12) else MAX_VALUES
        limit = MAX_PARTS if tag in (*_OFFSETS, *_COUNTS) else limit
        if number > limit:
            raise TooCostly(f"TIFF with {number} values in tag {tag}; limit {limit}")


def _check_parts(directory: _Directory, tiles: int, rows: int, planes: int) -> None:
    for tag, most in zip(_OFFSETS, (rows * planes, tiles * planes), strict=True):
        count, limit = directory.entries.get(tag, (0, 0, 0))[1], min(MAX_PARTS, FREE_PARTS + most)
        if count > limit:
            what = "strips" if tag == _OFFSETS[0] else "tiles"
            raise TooCostly(f"TIFF with {count} {what}; limit {limit} for its size")


def _parts(directory: _Directory, width: int, height: int, planes: int) -> tuple[int, int]:
    """Pixels of one strip or tile, and of all of them, with what lies beyond the edges."""
    if not directory.entries.get(324):
        rows = min(max(1, directory.number(278, default=height)), max(1, height))
        return width * rows, width * height * planes
    across, down = directory.number(322), directory.number(323)
    if min(across, down) < 1:
        return width * height, width * height * planes  # refused by the decoder
    count = -(-width // across) * -(-height // down)
    if count * across * down > 4 * width * height + TILE_PIXELS:
        raise TooCostly(f"TIFF with tiles of {across} x {down} px for {width} x {height} px")
    return across * down, count * across * down * planes


def _packed_bytes(directory: _Directory, raw_bytes: float, method: int) -> int:
    """Bytes of all parts. raw_bytes: unpacked."""
    counts = np.concatenate([directory.numbers(tag) for tag in _COUNTS])
    packed = int(np.minimum(counts, 2**40).sum()) if len(counts) else len(directory.data)
    if packed > 2 * len(directory.data) + SLACK_BYTES:
        size = len(directory.data)
        raise TooCostly(f"TIFF whose strips or tiles overlap: {packed} bytes in a file of {size}")
    if method != RAW and packed > 2 * raw_bytes + PART_BYTES * len(counts) + SLACK_BYTES:
        raise TooCostly(f"TIFF with {packed} bytes of data for {raw_bytes:.0f} bytes of pixels")
    return packed


def _check_method(directory: _Directory, method: int, packed: int) -> None:
    """Refuse what can take far longer to unpack than its size says."""
    if method == LZMA:
        raise TooCostly("TIFF packed with LZMA, which asks for memory without a limit")
    if method == ZSTD and packed > MAX_ZSTD_BYTES:
        raise TooCostly(f"TIFF with {packed} bytes packed by ZSTD; limit {MAX_ZSTD_BYTES}")
    if method in (DEFLATE, OLD_DEFLATE) and packed > UNCHECKED_DEFLATE:
        _try_deflate(directory)


def _try_deflate(directory: _Directory) -> None:
    """Unpack every part in pieces, which can be stopped, before libtiff does, which cannot."""
    until = time.thread_time() + STOP_SECS / 2
    for tag, count_tag in zip(_OFFSETS, _COUNTS, strict=True):
        places, counts = directory.numbers(tag), directory.numbers(count_tag)
        for place, length in zip(places.tolist(), counts.tolist(), strict=False):
            unpacker = zlib.decompressobj()
            for at in range(place, min(place + length, len(directory.data)), PIECE):
                try:
                    unpacker.decompress(directory.data[at : min(at + PIECE, place + length)])
                except zlib.error:
                    break  # the decoder says so
                if time.thread_time() > until:
                    raise TooCostly(f"TIFF takes more than {STOP_SECS / 2:g} s to unpack")


def _num_scans(data: bytes) -> int:
    codes = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero((codes[:-1] == 0xFF) & (codes[1:] == 0xDA)))

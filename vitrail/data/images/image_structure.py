"""The structure of an image file: how much work its parts are, in time linear in the file.

Sources as in `image_header.py`. Each `_kind` walks the parts of its format without a loop over
bytes, refuses what no encoder writes (`TooCostly`), and estimates the `Load`. The rates are in
nanoseconds, from the slowest of real and crafted files of each kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from vitrail.data.images.decode_cost import Load, TooCostly, reads_of
from vitrail.data.images.tiff_structure import tiff_load

MAX_SEGMENTS: Final = 2_000  # of a JPEG; extended XMP of 10 MB has 160
MAX_FILL: Final = 65_536  # bytes 0xFF between its segments
MAX_PACKED_TEXTS: Final = 100  # iCCP, zTXt and iTXt of a PNG; each unpacks to 1 MB
SLACK_BYTES: Final = 65_536  # packed data of tiny images
UNTIMED_IDAT: Final = 4 * 2**20  # a deflate stream of empty blocks takes 0.13 s a MiB
MAX_WEBP_CHUNKS: Final = 10_000
MAX_RLE_BYTES: Final = 400_000  # of a BMP; a microsecond each
RLE_NS: Final = 160.0  # a pixel of it: the end of a line fills the row one pixel after the other
ALPHA_NS: Final = 25.0  # compositing on white
DEEP_NS: Final = 20.0  # gray of 16 bits to 8
ALPHA_BYTES: Final = 32e6  # of the band that is composited

_FILL = re.compile(rb"\xff+")
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a scan: not stuffing, restart or fill
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG, DAC
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))


@dataclass(slots=True)
class Structure:
    """What was found on the walk. exif: the first EXIF block (a TIFF structure) of a JPEG."""

    load: Load
    exif: bytes = b""


def structure_of(kind: str, data: bytes) -> Structure:
    """The structure of an image of format `kind`. Raises TooCostly."""
    if kind == "jpeg":
        return _jpeg(data)
    return Structure(_LOADS[kind](data))


def _jpeg(data: bytes) -> Structure:
    """Segments up to the first scan where that holds everything, else all."""
    at, fill, scans = 2, 0, 0
    frame, sampling, exif = 0, b"", b""
    for _ in range(MAX_SEGMENTS):
        marker, at, more = _marker(data, at)
        fill += more
        if fill > MAX_FILL:
            raise TooCostly(f"JPEG with more than {MAX_FILL} fill bytes between its segments")
        if marker == 0xD9:
            break
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:  # stuffing and markers without a segment
            continue
        stop = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        if marker in _FRAMES:
            frame = frame or marker
            sampling = sampling or data[at + 8 : at + 8 + 3 * sum(data[at + 7 : at + 8]) : 3]
        elif marker == 0xE1:
            exif = exif or (data[at + 8 : stop] if data[at + 2 : at + 8] == b"Exif\0\0" else b"")
        elif marker == 0xDA:
            scans += 1
            if scans == 1 and _holds_all(frame, sampling, data[at + 2 : at + 3]):
                return Structure(_jpeg_load(frame, sampling, 0, len(data)), exif)
            following = _MARKER.search(data, stop)
            stop = following.start() if following else len(data)
        at = stop
    else:
        raise TooCostly(f"JPEG with more than {MAX_SEGMENTS} segments")
    return Structure(_jpeg_load(frame, sampling, max(1, scans), len(data)), exif)


def _marker(data: bytes, at: int) -> tuple[int, int, int]:
    """The next marker from `at` on, where it ends, and the fill bytes before it; 0xD9 at the end.

    Other bytes before it are skipped, as libjpeg does.
    """
    at = data.find(b"\xff", at) + 1
    if at == 0 or at >= len(data):
        return 0xD9, len(data), 0
    if data[at] != 0xFF:
        return data[at], at + 1, 0
    end = _FILL.match(data, at).end()  # type: ignore[union-attr]  # it begins there
    return (data[end] if end < len(data) else 0xD9), end + 1, end - at


def _holds_all(frame: int, sampling: bytes, count: bytes) -> bool:
    """Whether a first scan of so many components is the only one that is decoded."""
    return frame not in _PROGRESSIVE and bool(sampling) and count == bytes([len(sampling)])


def _jpeg_load(frame: int, sampling: bytes, scans: int, num_bytes: int) -> Load:
    """scans: 0 where the first one holds everything; several are kept as coefficients of two bytes
    until the last has come.
    """
    pixel_ns = 10.0 + 25.0 * (len(sampling) > 3) + 40.0 * (frame not in (0xC0, 0xC1, 0xC2))
    reads = reads_of(num_bytes)
    if not scans:
        return Load("JPEG", pixel_ns, 7.0, 9.0 * num_bytes, num_bytes, reads)
    shares = [(byte >> 4) * (byte & 15) for byte in sampling] or [1]
    memory = max(7.0, 2 * sum(shares) / max(1, *shares) + 4)
    what = f"JPEG with {scans} scans"
    pixel_ns += 1.5 * scans
    return Load(what, pixel_ns, memory, 30.0 * num_bytes, num_bytes, reads)


def _png(data: bytes) -> Load:
    most = 4_000 + len(data) // 2_048  # libpng writes 8 kB of pixels in a chunk
    at, chunks, texts, packed, is_masked = 8, 0, 0, 0, False
    while at + 8 <= len(data) and (name := data[at + 4 : at + 8]) != b"IEND":
        size = int.from_bytes(data[at : at + 4], "big")
        chunks += 1
        if name == b"IDAT":
            packed += size
        elif name in (b"iCCP", b"zTXt", b"iTXt"):
            texts += 1
        elif name == b"tRNS":
            is_masked = True
        if chunks > most or texts > MAX_PACKED_TEXTS:
            raise TooCostly(f"PNG with more than {min(chunks, most)} chunks; too slow to read")
        at += 12 + size
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    depth, colour = (data[24], data[25]) if len(data) > 25 else (8, 2)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
    raw = channels * depth / 8  # bytes a pixel
    if packed > 2 * (raw * width + 1) * height + SLACK_BYTES:
        raise TooCostly(f"PNG with {packed} bytes of data for {width} x {height} px")
    is_masked = is_masked or colour in (4, 6)
    memory = (4 if channels > 1 else 2 if depth == 16 else 1) + 3
    return Load(
        "PNG",
        6 + 8 * raw + ALPHA_NS * is_masked + DEEP_NS * (channels == 1 and depth == 16),
        memory,
        ns=2.0 * len(data),
        bytes=2 * len(data) - min(packed, len(data)) + ALPHA_BYTES * is_masked,
        max_reads=reads_of(len(data)),
        is_timed=packed > UNTIMED_IDAT,
    )


def _webp(data: bytes) -> Load:
    """Chunks of RIFF; the decoder keeps a record of each, and three canvases of the image."""
    at, chunks, is_lossless = 12, 0, False
    while at + 8 <= len(data):
        chunks += 1
        if chunks > MAX_WEBP_CHUNKS:
            raise TooCostly(f"WebP with more than {MAX_WEBP_CHUNKS} chunks")
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        inner = data[at + 24 : at + 28] if data[at : at + 4] == b"ANMF" else data[at : at + 4]
        is_lossless = is_lossless or inner == b"VP8L"
        at += 8 + size + (size & 1)
    rate = (45.0, 8.0) if is_lossless else (40.0, 50.0)
    return Load(
        "WebP",
        rate[0] + 15,
        20.0,
        rate[1] * len(data),
        len(data) + ALPHA_BYTES,
        max_reads=reads_of(len(data)),
    )


def _bmp(data: bytes) -> Load:
    """Run-length codes are read byte by byte, and rows filled pixel by pixel, in Python."""
    is_rle = int.from_bytes(data[30:34], "little") in (1, 2)
    if is_rle and len(data) > MAX_RLE_BYTES:
        raise TooCostly(f"run-length coded BMP of {len(data)} bytes; limit {MAX_RLE_BYTES}")
    alpha = data[28:29] == b"\x20"  # 32 bits a pixel
    return Load(
        "run-length coded BMP" if is_rle else "BMP",
        RLE_NS if is_rle else 12 + ALPHA_NS * alpha,
        7.0,
        2.0 * len(data),
        len(data) + ALPHA_BYTES * alpha,
        max_reads=max(MAX_RLE_BYTES, reads_of(len(data))),
    )


def _plain(what: str, ns_per_pixel: float, ns_per_byte: float, data: bytes) -> Load:
    return Load(
        what,
        ns_per_pixel,
        7.0,
        ns_per_byte * len(data),
        len(data) + ALPHA_BYTES,
        max_reads=reads_of(len(data)),
    )


_LOADS: dict[str, Callable[[bytes], Load]] = {
    "png": _png,
    "webp": _webp,
    "bmp": _bmp,
    "gif": partial(_plain, "GIF", 25 + ALPHA_NS, 15.0),
    "pnm": partial(_plain, "PNM", 20.0, 2.0),
    "tiff": tiff_load,
}

"""Crafted images whose decoding costs far more than their size tells: one function for each way.

`SMALL` makes files of about a megabyte, `LARGE` such as claim the largest sizes. `measure` decodes
files in processes of their own and tells time and memory.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MIB = 2**20
Maker = Callable[[], bytes]

_CHILD = """
import json, os, sys, time
from vitrail.data.images.decode import decode
from vitrail.data.images.image_file import DecodeFault
for path in sys.argv[1:]:
    if os.fork() == 0:
        data = open(path, "rb").read()
        open("/proc/self/clear_refs", "w").write("5")
        began, what = time.process_time(), ""
        try:
            decode(data)
        except DecodeFault as fault:
            what = fault.reason
        secs = time.process_time() - began
        peak = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line)
        print(json.dumps([path, what, secs, peak / 1024, len(data)]), flush=True)
        os._exit(0)
    _, status = os.wait()
    if status:
        print(json.dumps([path, f"crash {status}", 1e9, 1e9, 0]), flush=True)
"""


def table(folder: Path) -> Iterator[str]:
    """A line for each of all images, made and measured one after another."""
    for name, make in (SMALL | LARGE).items():
        [path] = write_all({name: make}, folder)
        for row in measure([path]):
            yield "{0:32s} {2:7.2f} s {3:7.0f} MiB {4:10d} B  {1}".format(*row)
        path.unlink()


def measure(paths: Sequence[Path]) -> list[tuple[str, str, float, float, int]]:
    """(name, reason or "", seconds of processor time, MiB at the peak, bytes of the file)."""
    command = [sys.executable, "-c", _CHILD, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [(Path(row[0]).name, row[1], row[2], row[3], row[4]) for row in rows]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(
    middle: bytes = b"", idat: bytes | None = None, side: int = 8, after: bytes = b""
) -> bytes:
    raw = (b"\0" + b"\x55" * (3 * side)) * side
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = _chunk(b"IDAT", zlib.compress(raw)) if idat is None else idat
    return b"\x89PNG\r\n\x1a\n" + head + middle + body + after + _chunk(b"IEND", b"")


def empty_blocks(num_bytes: int) -> bytes:
    """Deflate blocks with tables of their own and nothing in them: eight in 91 bytes."""
    bits = ""

    def put(value: int, width: int) -> None:  # lowest bit first
        nonlocal bits
        bits += format(value, f"0{width}b")[::-1]

    for _ in range(8):
        for value, width in ((0, 1), (2, 2), (0, 5), (0, 5), (14, 4)):
            put(value, width)
        for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
            put(1 if symbol in (1, 18) else 0, 3)
        bits += "0" + "1" + format(127, "07b")[::-1] + "1" + format(106, "07b")[::-1] + "00" + "1"
    unit = int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")
    return unit * (num_bytes // len(unit))


def _spam_stream(num_bytes: int, raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = packer.compress(raw) + packer.flush() + struct.pack(">I", zlib.adler32(raw))
    return b"\x78\x9c" + empty_blocks(num_bytes) + tail


def png_spam(num_bytes: int, side: int) -> bytes:
    """A PNG whose stream is mostly blocks without content."""
    raw = (b"\0" + b"\x55" * (3 * side)) * side
    return _png(idat=_chunk(b"IDAT", _spam_stream(num_bytes, raw)), side=side)


def png_packed_texts(name: bytes, count: int) -> bytes:
    """Chunks that each unpack to almost a megabyte."""
    packed = zlib.compress(bytes(MIB - 10), 9)
    head = {b"iCCP": b"p\0\0", b"zTXt": b"k%d\0\0", b"iTXt": b"k\0\1\0\0\0"}[name]
    return _png(
        b"".join(_chunk(name, head.replace(b"%d", b"%d" % i) + packed) for i in range(count))
    )


def tiff(
    data: bytes,
    *,
    method: int = 1,
    side: tuple[int, int] = (8, 8),
    extra: Sequence[Any] = (),
    parts: int = 1,
    rows: int = 0,
    samples: int = 3,
    photometric: int = 2,
    overlap: bool = False,
) -> bytes:
    """A TIFF of strips of equal size, or with the tags of `extra`: (tag, type, count, value)."""
    width, height = side
    size = len(data) // (1 if overlap else parts)
    offsets = struct.pack(f"<{parts}I", *[8 + (0 if overlap else i * size) for i in range(parts)])
    counts = struct.pack(f"<{parts}I", *[size] * parts)
    place = 8 + len(data)
    bits = struct.pack(f"<{samples}H", *[8] * samples)
    at_counts, at_bits = place + len(offsets), place + len(offsets) + len(counts)
    at = at_bits + len(bits)
    strips = [
        (273, 4, parts, place if parts > 1 else 8),
        (278, 4, 1, rows or height),
        (279, 4, parts, at_counts if parts > 1 else size),
    ]
    if any(row[0] == 324 for row in extra):
        strips = []
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, samples, at_bits if samples > 2 else 8),
        (259, 3, 1, method),
        (262, 3, 1, photometric),
        (277, 3, 1, samples),
        *strips,
        *extra,
    ]
    tags.sort()
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *row) for row in tags)
    return b"II*\0" + struct.pack("<I", at) + data + offsets + counts + bits + table + bytes(4)


def tiff_spam(num_bytes: int, side: int) -> bytes:
    """A TIFF whose deflate stream is mostly blocks without content."""
    return tiff(_spam_stream(num_bytes, bytes(3 * side * side)), method=8, side=(side, side))


def tiff_tiles(num_bytes: int) -> bytes:
    """Tiles of one pixel, all at one place."""
    side = int((num_bytes / 8) ** 0.5)
    count = side * side
    places = struct.pack(f"<{2 * count}I", *[8] * count, *[1] * count)
    tags = [(322, 4, 1, 1), (323, 4, 1, 1), (324, 4, count, 8), (325, 4, count, 8 + 4 * count)]
    return tiff(places, side=(side, side), samples=1, photometric=1, extra=tags)


def tiff_large_tile() -> bytes:
    """One tile of 16,000 x 16,000 px, of zeros, for an image of 8 x 8."""
    data = zlib.compress(bytes(16_000 * 16_000), 9)
    tags = [(322, 4, 1, 16_000), (323, 4, 1, 16_000), (324, 4, 1, 8), (325, 4, 1, len(data))]
    return tiff(data, method=8, samples=1, photometric=1, extra=tags)


def tiff_tags(count: int, kind: int) -> bytes:
    """Many entries with values at one place."""
    tags = [(400 + i, kind, MIB // 16, 8) for i in range(count)]
    return tiff(bytes(MIB), extra=tags)


def tiff_of_jpegs(side: int, scans: int, parts: int) -> bytes:
    """Strips that are JPEGs of many scans."""
    return tiff(
        jpeg_scans(side, scans, (0x11, 0x11, 0x11)),
        method=7,
        side=(side, side * parts),
        parts=parts,
        rows=side,
        photometric=6,
        overlap=True,
    )


def _segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_scans(side: int, scans: int, sampling: Sequence[int]) -> bytes:
    """A progressive JPEG of scans without content."""
    head = struct.pack(">BHHB", 8, side, side, len(sampling))
    frame = head + b"".join(bytes([i + 1, s, 0]) for i, s in enumerate(sampling))
    tables = b"".join(_segment(0xC4, bytes([kind, 1]) + bytes(16)) for kind in (0x00, 0x10))
    ids = b"".join(bytes([i + 1, 0]) for i in range(len(sampling)))
    first = _segment(0xDA, bytes([len(sampling)]) + ids + bytes(3))
    data = b"\xff\xd8" + _segment(0xDB, b"\0" + b"\1" * 64) + _segment(0xC2, frame) + tables + first
    return data + _segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) * (scans - 1) + b"\xff\xd9"


def jpeg_refined(side: int, scans: int) -> bytes:
    """A progressive JPEG of noise, followed by scans that refine every coefficient."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    data = _saved(Image.fromarray(noise), "JPEG", quality=75, progressive=True)
    end = data.rindex(b"\xff\xd9")
    table = _segment(0xC4, bytes([0x10, 1]) + bytes(15) + b"\xe0")
    scan = _segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + bytes(200_000)
    return data[:end] + table + scan * scans + data[end:]


def jpeg_with(middle: bytes, mode: str = "RGB") -> bytes:
    """A small JPEG with something behind its first marker."""
    data = _saved(Image.new(mode, (8, 8)), "JPEG")
    return data[:2] + middle + data[2:]


def jpeg_restarts(side: int) -> bytes:
    """Restart markers by thousands, and nothing between them."""
    data = _saved(Image.new("RGB", (side, side)), "JPEG")
    start = data.index(b"\xff\xda")
    head = data[:start] + _segment(0xDD, b"\0\1") + data[start : start + 14]
    return head + b"".join(bytes([0xFF, 0xD0 + i % 8]) for i in range(MIB // 2)) + b"\xff\xd9"


def _gif(extension: bytes = b"", data: bytes | None = None, side: int = 8) -> bytes:
    whole = _saved(Image.new("P", (side, side)), "GIF")
    at = whole.index(b",", 13)
    flags = whole[at + 9]
    start = at + 10 + ((3 << ((flags & 7) + 1)) if flags & 128 else 0)
    body = whole[start:] if data is None else data
    return whole[:at] + extension + whole[at:start] + body


def gif_clears(num_bytes: int, block: int, side: int = 8) -> bytes:
    """Codes that clear the table and nothing else, in blocks of `block` bytes."""
    unit = int("100" * 8, 2).to_bytes(3, "little")
    stream = unit * (num_bytes // 3)
    blocks = b"".join(
        bytes([len(stream[at : at + block])]) + stream[at : at + block]
        for at in range(0, len(stream), block)
    )
    return _gif(data=b"\2" + blocks + b"\0;", side=side)


def webp_chunks(count: int) -> bytes:
    """Chunks of eight bytes behind the image."""
    data = _saved(Image.new("RGB", (8, 8)), "WEBP", lossless=True)
    body = data[8:] + b"junk\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_frames(side: int, count: int) -> bytes:
    """An animation of tiny frames on a large canvas."""
    still = _saved(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    size = struct.pack("<I", side - 1)[:3]
    head = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + size + size
    head += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    frame = bytes(6) + b"\7\0\0\7\0\0" + b"\1\0\0\0" + still
    body = b"WEBP" + head + (b"ANMF" + struct.pack("<I", len(frame)) + frame) * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_runs(code: bytes, count: int, side: int = 3100) -> bytes:
    """A run-length coded BMP of one code over and over."""
    body = code * count
    head = struct.pack("<2sIHHI", b"BM", 1078 + len(body), 0, 0, 1078)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 256)
    return head + info + bytes(1024) + body


def large(kind: str, mode: str, side: int, **options: Any) -> bytes:
    """An image of one colour."""
    colour = {"RGBA": (9, 99, 199, 128), "CMYK": (9, 9, 9, 9), "LA": (9, 100)}.get(mode)
    if mode == "I;16":
        return _saved(Image.fromarray(np.full((side, side), 999, np.uint16)), kind, **options)
    return _saved(Image.new(mode, (side, side), colour or 0), kind, **options)


SMALL: dict[str, Maker] = {
    "jpeg-scans": partial(jpeg_scans, 8000, 1000, (0x22, 0x11, 0x11)),
    "jpeg-scans-odd-sampling": partial(jpeg_scans, 8000, 1000, (0x31, 0x11, 0x11)),
    "jpeg-scans-four": partial(jpeg_scans, 8000, 1000, (0x31, 0x11, 0x11, 0x31)),
    "jpeg-scans-gray": partial(jpeg_scans, 8000, 500, (0x11,)),
    "jpeg-fill": lambda: jpeg_with(b"\xff" * MIB),
    "jpeg-apps": lambda: jpeg_with(b"\xff\xef\0\2" * (MIB // 4)),
    "jpeg-comments": lambda: jpeg_with(b"\xff\xfe\0\2" * (MIB // 4)),
    "jpeg-apps-cmyk": lambda: jpeg_with(b"\xff\xef\0\2" * (MIB // 4), "CMYK"),
    "jpeg-garbage": lambda: jpeg_with(b"\xff\0" * (MIB // 2)),
    "jpeg-tables": lambda: jpeg_with(
        _segment(0xC4, (b"\x01" + b"\1" * 16 + bytes(range(16))) * 1_900) * 16
    ),
    "jpeg-restarts": partial(jpeg_restarts, 512),
    "png-empty-chunks": lambda: _png(_chunk(b"teSt", b"") * (MIB // 12)),
    "png-empty-idat": lambda: _png(
        idat=_chunk(b"IDAT", b"") * (MIB // 12)
        + _chunk(b"IDAT", zlib.compress((b"\0" + bytes(24)) * 8))
    ),
    "png-texts": lambda: _png(_chunk(b"tEXt", b"k\0v") * (MIB // 15)),
    "png-chunks-behind": lambda: _png(after=_chunk(b"teSt", b"") * (MIB // 12)),
    "png-profiles": partial(png_packed_texts, b"iCCP", 900),
    "png-packed-texts": partial(png_packed_texts, b"zTXt", 60),
    "png-packed-itexts": partial(png_packed_texts, b"iTXt", 900),
    "png-blocks": partial(png_spam, MIB, 8),
    "png-blocks-in-large": partial(png_spam, MIB, 1000),
    "gif-comments": lambda: _gif(b"\x21\xfe\1a\0" * (MIB // 5)),
    "gif-comment-in-bytes": lambda: _gif(b"\x21\xfe" + b"\1a" * (MIB // 2) + b"\0"),
    "gif-extensions": lambda: _gif(b"\x21\x01\0" * (MIB // 3)),
    "gif-clears": partial(gif_clears, MIB, 255),
    "gif-clears-in-bytes": partial(gif_clears, MIB // 2, 1),
    "webp-chunks": partial(webp_chunks, MIB // 8),
    "webp-frames": partial(webp_frames, 4000, 9000),
    "bmp-runs": partial(bmp_runs, b"\1\5", MIB // 2),
    "bmp-runs-within-the-limit": partial(bmp_runs, b"\1\5", 190_000, 600),
    "bmp-short-rows": partial(bmp_runs, b"\1\7\0\0", 8_000, 8_000),
    "bmp-short-rows-within-the-limit": partial(bmp_runs, b"\1\7\0\0", 3_100),
    "bmp-nothing": partial(bmp_runs, b"\0\2\0\0", 90_000),
    "bmp-jumps": partial(bmp_runs, b"\0\2\1\xff", 90_000, 16_000),
    "pnm-comment": lambda: b"P5\n#" + b"a" * MIB + b"\n8 8\n255\n" + bytes(64),
    "pnm-comments": lambda: b"P6\n" + b"#\n" * (MIB // 2) + b"8 8\n255\n" + bytes(192),
    "pnm-spaces": lambda: b"P4\n" + b" " * MIB + b"8 8\n" + bytes(8),
    "pnm-scaled": lambda: b"P6 4000 3000 100 " + bytes(36_000_000),
    "tiff-tiles": partial(tiff_tiles, MIB),
    "tiff-tiles-within-the-limit": partial(tiff_tiles, 60_000 * 8),
    "tiff-large-tile": tiff_large_tile,
    "tiff-tags": partial(tiff_tags, 64_000, 3),
    "tiff-fractions": partial(tiff_tags, 400, 5),
    "tiff-longs": partial(tiff_tags, 4_000, 4),
    "tiff-blocks": partial(tiff_spam, MIB, 8),
    "tiff-blocks-in-large": partial(tiff_spam, MIB, 1000),
    "tiff-strips-of-one-row": lambda: tiff(
        bytes(3 * 16_000 * 300), side=(300, 16_000), parts=16_000, rows=1
    ),
    "tiff-overlap": lambda: tiff(
        zlib.compress(bytes(3 * 4000 * 400), 9),
        method=8,
        side=(4000, 16_000),
        parts=40,
        rows=400,
        overlap=True,
    ),
    "tiff-jpeg-scans": partial(tiff_of_jpegs, 4000, 90, 1),
    "tiff-jpeg-strips": partial(tiff_of_jpegs, 1000, 90, 16),
    "tiff-lzw-clears": lambda: tiff(
        int("100000000" * 8, 2).to_bytes(9, "big") * (MIB // 9) + b"\x80\x40",
        method=5,
        side=(1000, 1000),
    ),
    "tiff-packbits-nothing": lambda: tiff(b"\x80" * MIB, method=32773, side=(600, 600)),
    "tiff-fax": lambda: tiff(
        b"\0\x10\x01" * (MIB // 3),
        method=3,
        side=(16_000, 3_900),
        samples=1,
        photometric=0,
        extra=[],
    ),
}

LARGE: dict[str, Maker] = {
    **{
        f"{name}-{side}": partial(large, kind, mode, side, **options)
        for side in (5000, 8000)
        for name, kind, mode, options in (
            ("jpeg", "JPEG", "RGB", {}),
            ("jpeg-progressive", "JPEG", "RGB", {"progressive": True}),
            ("jpeg-progressive-444", "JPEG", "RGB", {"progressive": True, "subsampling": 0}),
            ("jpeg-cmyk", "JPEG", "CMYK", {}),
            ("jpeg-cmyk-progressive", "JPEG", "CMYK", {"progressive": True}),
            ("png", "PNG", "RGB", {"compress_level": 1}),
            ("png-alpha", "PNG", "RGBA", {"compress_level": 1}),
            ("png-palette", "PNG", "P", {"compress_level": 1, "transparency": 0}),
            ("png-gray-alpha", "PNG", "LA", {"compress_level": 1}),
            ("png-16", "PNG", "I;16", {"compress_level": 1}),
            ("gif", "GIF", "P", {}),
            ("gif-transparent", "GIF", "P", {"transparency": 0}),
            ("bmp", "BMP", "RGB", {}),
            ("tiff", "TIFF", "RGB", {}),
            ("tiff-turned", "TIFF", "RGB", {"tiffinfo": {274: 6}}),
            ("tiff-lzw", "TIFF", "RGB", {"compression": "tiff_lzw"}),
            ("tiff-deflate-alpha", "TIFF", "RGBA", {"compression": "tiff_adobe_deflate"}),
            ("tiff-zstd", "TIFF", "RGB", {"compression": "zstd"}),
            ("tiff-g4", "TIFF", "1", {"compression": "group4"}),
            ("tiff-jpeg", "TIFF", "RGB", {"compression": "jpeg"}),
            ("ppm", "PPM", "RGB", {}),
            ("pgm-16", "PPM", "I;16", {}),
            ("webp", "WEBP", "RGB", {"lossless": True, "quality": 0, "method": 0}),
            ("webp-lossy", "WEBP", "RGBA", {"method": 0}),
        )
    },
    "jpeg-refined": partial(jpeg_refined, 5000, 30),
    "png-blocks-20": partial(png_spam, 20 * MIB, 5000),
    "png-blocks-7": partial(png_spam, 7 * MIB, 5000),
    "tiff-blocks-20": partial(tiff_spam, 20 * MIB, 5000),
    "tiff-blocks-7": partial(tiff_spam, 7 * MIB, 5000),
    "gif-clears-64": partial(gif_clears, 64 * MIB, 255, 4000),
    "jpeg-apps-64k": lambda: jpeg_with(_segment(0xEF, bytes(65_533)) * 1_900),
    "pnm-scaled-64": lambda: b"P5 8000 8000 1000 " + bytes(128_000_000),
}


def write_all(makers: dict[str, Maker], folder: Path) -> list[Path]:
    """The files, each under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, make in makers.items():
        paths.append(folder / name)
        paths[-1].write_bytes(make())
    return paths

"""Whether a file holds images behind its first one, which nobody sees: animations, pages.

Read from the structure, without decoding. GIF: a second image descriptor (GIF89a, section 20).
PNG: an acTL chunk of more than one frame before the data (PNG third edition, 11.3.6). WebP: a
second ANMF chunk (RFC 9649, 2.7.1). TIFF: a second directory (TIFF 6.0, section 2). The container
is believed as it is: damaged files are met by the decoder.
"""

from __future__ import annotations

import struct

from vitrail.data.images.image_header import image_format

MOST_BLOCKS = 65_536  # of a file, some 10 ms; behind them nothing is looked for


def holds_more(data: bytes) -> bool:
    """Whether the bytes of an image file hold more images than the first."""
    looks = {"gif": _gif, "png": _png, "webp": _webp, "tiff": _tiff}
    look = looks.get(image_format(data))
    try:
        return look is not None and look(data)
    except (IndexError, struct.error):  # it is cut off
        return False


def _gif(data: bytes) -> bool:
    at, found, is_inside = 13 + _table(data[10]), 0, False
    for _ in range(MOST_BLOCKS):
        kind = data[at]
        if is_inside:  # a block of data of an image or an extension; an empty one ends them
            is_inside = kind > 0
            at += 1 + kind
        elif kind == 0x2C:  # an image: descriptor, table, size of codes, data
            found += 1
            if found == 2:
                return True
            at, is_inside = at + 11 + _table(data[at + 9]), True
        elif kind == 0x21:
            at, is_inside = at + 2, True
        else:
            return False
    return False


def _table(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _png(data: bytes) -> bool:
    at = 8
    for _ in range(MOST_BLOCKS):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            return bool(struct.unpack_from(">I", data, at + 8)[0] > 1)
        if kind == b"IDAT":
            return False
        at += 12 + size
    return False


def _webp(data: bytes) -> bool:
    at, found = 12, 0
    for _ in range(MOST_BLOCKS):
        if at + 8 > len(data) or found > 1:
            break
        found += data[at : at + 4] == b"ANMF"
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + (size & 1)
    return found > 1


def _tiff(data: bytes) -> bool:
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(order + "H", data, 2)[0] == 43:  # BigTIFF
        (at,) = struct.unpack_from(order + "Q", data, 8)
        (entries,) = struct.unpack_from(order + "Q", data, at)
        (following,) = struct.unpack_from(order + "Q", data, at + 8 + 20 * entries)
    else:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, at)
        (following,) = struct.unpack_from(order + "I", data, at + 2 + 12 * entries)
    return bool(following)

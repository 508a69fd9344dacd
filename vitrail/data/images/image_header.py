"""What an image file says about itself: format, orientation, how many bytes it should have.

Formats are told by their first bytes, never by the file name. Sources: ITU-T T.81 annex B (JPEG
markers), the PNG specification (third edition) section 5, CIPA DC-008 (EXIF) section 4.6.4, RFC
9649 (WebP), Netpbm (PNM). No pixels are decoded here.
"""

from __future__ import annotations

import struct

ACCEPTED = ("jpeg", "png", "webp", "bmp", "gif", "tiff", "pnm")
ACCEPTED_TEXT = "accepted: JPEG, PNG, WebP, BMP, GIF, TIFF, binary PNM"

SUFFIXES = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff"),
    *("pbm", "pgm", "ppm", "pnm"),
)

# First bytes of what people meet under an image's name, for the reason that is printed.
_FOREIGN = (
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "PostScript"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"\xd0\xcf\x11\xe0", "a Microsoft Office document"),
    (b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (b"\x01\xda", "an SGI image"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"DDS ", "a DDS texture"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer; run: git lfs pull"),
)
_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"crx ": "Canon raw (CR3)",
}


def image_format(data: bytes) -> str:
    """One of ACCEPTED, or "" where `data` starts like none of them."""
    head = data[:16]
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith((b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")):
        return "tiff"
    if head[:2] in (b"P4", b"P5", b"P6") and head[2:3].isspace():
        return "pnm"  # as text (P1 to P3) an image would be parsed number by number
    return "bmp" if head.startswith(b"BM") else ""


def foreign_reason(data: bytes, name: str) -> str:
    """Why bytes in none of the accepted formats are refused, in words for people."""
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    inside = f" inside a .{suffix} name" if suffix in SUFFIXES else ""
    if not data:
        return "empty file (0 bytes)"
    if not data.strip(b"\0"):
        return f"only zero bytes ({len(data)}); the file was never written or the disk lost it"
    if data[4:8] == b"ftyp":
        brand = _BRANDS.get(data[8:12], "a video or ISO media file")
        return f"is {brand}{inside}; not an accepted format ({ACCEPTED_TEXT})"
    for magic, what in _FOREIGN:
        if data.startswith(magic):
            return f"is {what}{inside}; not an accepted format ({ACCEPTED_TEXT})"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return f"is an HTML page{inside}: probably a download that failed"
    if b"<svg" in start:
        return f"is SVG{inside}; not an accepted format ({ACCEPTED_TEXT})"
    if data[:1] == b"P" and data[1:2] in b"1237Ff" and data[2:3].isspace():
        return f"is PNM as text, PAM or PFM{inside}; not an accepted format ({ACCEPTED_TEXT})"
    if _is_text(data[:512]):
        return f"is text{inside}, not an image"
    return f"is not an image in an accepted format ({ACCEPTED_TEXT})"


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter.isspace() for letter in text)


def declared_bytes(kind: str, data: bytes) -> int | None:
    """How many bytes the file should have at least, where its format says so."""
    if kind == "bmp" and len(data) >= 6:
        return int.from_bytes(data[2:6], "little")
    if kind == "webp" and len(data) >= 8:
        return int.from_bytes(data[4:8], "little") + 8
    if kind != "png":
        return None
    at = 8  # a chunk: length (4), type (4), data, checksum (4)
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return at + 12 if at > len(data) else None  # the chunk that was cut, then IEND


def exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of an EXIF block's first directory: 1 (upright) to 8; 1 where it is absent."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (num_entries,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(num_entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1

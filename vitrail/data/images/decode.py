"""From the bytes of an image file to upright RGB pixels, or a reason a person understands.

One gate stands before both decoders: the format is told by its first bytes (seven are accepted),
its structure must be that of an image whose decoding takes at most 2 s and 512 MB
(`image_structure`), and the size is limited before any pixel is decoded. JPEGs are decoded by
simplejpeg with the exact DCT and smooth upsampling, which gives Pillow's bits; what it does not
take (CMYK, damage that libjpeg can repair) and all other formats go to Pillow, whose verdict is
final. `LOAD_TRUNCATED_IMAGES` is never set: a truncated image is refused.

What becomes what: gray -> three equal channels; CMYK -> RGB as Pillow does (Adobe's inverted values
are turned); transparency -> composited on white, as a page shows it; 16-bit gray -> divided by 257
with rounding (not clipped); animations and multi-page files -> the first image; EXIF orientation
-> applied. Colour profiles and all other metadata are dropped. Orientation in XMP is not read.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vitrail.data.images.decode_cost import MAX_PIXELS as MAX_PIXELS
from vitrail.data.images.decode_cost import Load, MeteredFile, TooCostly
from vitrail.data.images.image_file import MAX_FILE_BYTES, DecodeFault, read_bytes
from vitrail.data.images.image_header import (
    declared_bytes,
    exif_orientation,
    foreign_reason,
    image_format,
)
from vitrail.data.images.image_structure import Structure, structure_of
from vitrail.data.images.rgb import Pixels, orientation_of, rgb_pixels, upright

MAX_SIDE_PX = 16_384
MAX_ASPECT = 1000  # long side / short side: 3 x 2000 px is an image, 1 x 16000 px an attack
TWICE_SECS = 0.8  # a JPEG estimated to take longer is decoded once, not by Pillow again

# Opened directly, not through Image.open: the format is known, and no global pixel limit or list of
# 40 openers applies.
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
    "tiff": TiffImageFile,
    "pnm": PpmImageFile,
}

# What Pillow raises for damaged files: its own fuzzers' list, and the rest met in mutants of the
# formats.
_PILLOW_FAULTS = (
    OSError,
    SyntaxError,
    MemoryError,
    ValueError,
    NotImplementedError,
    OverflowError,
    TypeError,
    EOFError,
    LookupError,
    AttributeError,
    ZeroDivisionError,
    struct.error,
    Image.DecompressionBombError,
    Warning,
)


def decode(
    data: bytes, *, name: str = "", max_pixels: int = MAX_PIXELS, padded: bool = False
) -> Pixels:
    """Upright RGB pixels (H, W, 3) of an encoded image. Raises DecodeFault, nothing else.

    `padded` allows (H, W, 4) where that costs nothing: a fourth byte without meaning, as Pillow
    keeps RGB in memory.
    """
    kind, structure = _gate(data, name)
    if kind == "jpeg":
        pixels = _fast_jpeg(data, structure.load, name, max_pixels, padded)
        if pixels is not None:
            turn = exif_orientation(structure.exif)
            return pixels if padded and turn == 1 else upright(pixels[:, :, :3], turn)
    return upright(*_by_pillow(kind, data, structure.load, name, max_pixels))


def decode_size(data: bytes, *, name: str = "", max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright image, from the header alone, within the limits.

    Raises DecodeFault.
    """
    kind, structure = _gate(data, name)
    with _named(name, kind, data, max_pixels), _opened(kind, data, structure.load) as image:
        height, width, turned = image.height, image.width, orientation_of(image) >= 5
        _check_size(height, width, name, max_pixels)
        structure.load.check(height * width, max_pixels)
    return (width, height) if turned else (height, width)


def read_image(
    picture: str | Path | bytes,
    *,
    name: str = "",
    root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """Upright RGB pixels (H, W, 3) of a file or of its bytes. Raises DecodeFault."""
    if isinstance(picture, bytes):
        return decode(picture, name=name, max_pixels=max_pixels)
    return decode(
        read_bytes(picture, root=root), name=name or os.fspath(picture), max_pixels=max_pixels
    )


def _gate(data: bytes, name: str) -> tuple[str, Structure]:
    """Format and structure. Raises DecodeFault for another format, or one that costs too much."""
    if len(data) > MAX_FILE_BYTES:
        raise DecodeFault(f"{len(data)} bytes; limit {MAX_FILE_BYTES}", name)
    if not (kind := image_format(data)):
        raise DecodeFault(foreign_reason(data, name), name)
    try:
        return kind, structure_of(kind, data)
    except TooCostly as error:
        raise DecodeFault(str(error), name) from None


def _opened(kind: str, data: bytes, load: Load) -> ImageFile.ImageFile:
    """The header, read by Pillow."""
    return _OPENERS[kind](MeteredFile(data, load))


def _by_pillow(
    kind: str, data: bytes, load: Load, name: str, max_pixels: int
) -> tuple[Pixels, int]:
    """Pixels (H, W, 3), not yet upright, and their orientation. Pillow's copy is gone by then."""
    with _named(name, kind, data, max_pixels), _opened(kind, data, load) as image:
        _check_size(image.height, image.width, name, max_pixels)
        load.check(image.height * image.width, max_pixels)
        if image.format == "PPM" and image.tile[0][0] == "ppm":
            return _scaled_pnm(image, data), 1
        image.load()
        return rgb_pixels(image), orientation_of(image)


@contextmanager
def _named(name: str, kind: str, data: bytes, max_pixels: int) -> Iterator[None]:
    """Whatever Pillow raises of an image, as DecodeFault with its name; without warnings."""
    try:
        with _quiet():
            yield
    except DecodeFault as fault:
        raise DecodeFault(fault.reason, name) from None
    except TooCostly as error:
        raise DecodeFault(str(error), name) from None
    except _PILLOW_FAULTS as error:
        raise DecodeFault(_reason(kind, data, error, max_pixels), name) from error


def _check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    if min(height, width) < 1:
        raise DecodeFault(f"{width} x {height} px; an image has at least one pixel", name)
    if height * width > max_pixels:
        raise DecodeFault(f"{height * width} pixels; limit {max_pixels} (--max-pixels)", name)
    if max(height, width) > MAX_SIDE_PX:
        raise DecodeFault(f"{width} x {height} px; a side has at most {MAX_SIDE_PX}", name)
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise DecodeFault(
            f"{width} x {height} px; sides differ by more than {MAX_ASPECT} times", name
        )


def _scaled_pnm(image: ImageFile.ImageFile, data: bytes) -> Pixels:
    """Pixels (H, W, 3) of a PNM whose highest value is neither 255 nor 65535, scaled to 0..255;
    Pillow does so value by value, in Python. Raises DecodeFault where it ends too early.
    """
    _, _, offset, args = image.tile[0]
    highest = int(args[1])  # type: ignore[index]  # after the mode
    channels = 3 if image.mode == "RGB" else 1
    count = image.height * image.width * channels
    if len(data) < offset + count * (2 if highest > 255 else 1):
        raise DecodeFault(f"truncated file ({len(data)} bytes; its end is missing)")
    values = np.frombuffer(data, ">u2" if highest > 255 else "u1", count, offset)
    top = 65535 if highest > 255 and channels == 1 else 255
    steps = np.rint(np.arange(65536) / highest * top).clip(max=top).astype(np.uint32)
    if top == 65535:
        steps = (steps + 128) // 257
    scaled = steps.astype(np.uint8)[values].reshape(image.height, image.width, channels)
    return scaled if channels == 3 else np.repeat(scaled, 3, axis=2)


def _fast_jpeg(
    data: bytes, load: Load, name: str, max_pixels: int, padded: bool = False
) -> Pixels | None:
    """simplejpeg's pixels (H, W, 3 or 4), not yet upright; None where Pillow has to decide."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_size(height, width, name, max_pixels)
    try:
        load.check(height * width, max_pixels)
    except TooCostly as error:
        raise DecodeFault(str(error), name) from None
    if space not in ("YCbCr", "Gray", "RGB"):
        return None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, "RGBX" if padded else "RGB", fastdct=False, fastupsample=False
        )
    except ValueError as error:
        if load.secs(height * width) > TWICE_SECS:
            raise DecodeFault(_reason("jpeg", data, error, max_pixels), name) from error
        return None
    return pixels


def _reason(kind: str, data: bytes, error: BaseException, max_pixels: int) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError) and (
        found := re.search(r"(\d+) pixels", text)
    ):
        return f"{found[1]} pixels; limit {max_pixels} (--max-pixels)"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    total = declared_bytes(kind, data)
    if total is not None and total > len(data):
        return f"truncated file ({len(data)} of {total} bytes)"
    if "truncated" in text.lower() or (kind == "jpeg" and b"\xff\xd9" not in data[-1024:]):
        return f"truncated file ({len(data)} bytes; its end is missing)"
    return f"damaged {kind.upper()} file ({text or type(error).__name__})"


class _Decoding(threading.local):
    """Whether this thread decodes: as a filter it matches every warning then."""

    depth = 0

    def match(self, text: str) -> bool:
        """As of the pattern of a filter."""
        return self.depth > 0


_DECODING = _Decoding()
_IGNORED: Any = ("ignore", _DECODING, Warning, None, 0)  # an entry of warnings.filters


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings about metadata are not for users: the pixels decide.

    Filters belong to the process; this one asks which thread it is that warns. It is put in front
    again where somebody changed them since.
    """
    filters: Any = warnings.filters
    if not filters or filters[0] is not _IGNORED:
        filters.insert(0, _IGNORED)
    _DECODING.depth += 1
    try:
        yield
    finally:
        _DECODING.depth -= 1

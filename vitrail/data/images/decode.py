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

import errno
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
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
from vitrail.data.images.image_header import (
    declared_bytes,
    exif_orientation,
    foreign_reason,
    image_format,
)
from vitrail.data.images.image_structure import Structure, structure_of
from vitrail.errors import DataError

MAX_SIDE_PX = 16_384
MAX_ASPECT = (
    1000  # long side / short side; 3 x 2000 px strips are images, 1 x 16000 px is an attack
)
MAX_FILE_BYTES = 256 * 2**20
_BAND_PIXELS = (
    2**20
)  # colours of large images are converted in bands, so that memory stays near the result's
TWICE_SECS = 0.8  # a JPEG estimated to take longer is decoded once, not by Pillow again

Pixels = NDArray[np.uint8]

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


class DecodeFault(DataError):
    """An image cannot be used; `reason` says why, `name` which. Code VIT-330."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__("VIT-330", f"{name}: {reason}" if name else reason)
        self.reason = reason
        self.name = name

    def __reduce__(self) -> tuple[type[DecodeFault], tuple[str, str]]:
        return DecodeFault, (self.reason, self.name)


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
    try:
        with _quiet(), _opened(kind, data, structure.load) as image:
            height, width, turned = image.height, image.width, _orientation(image) >= 5
            _check_size(height, width, name, max_pixels)
            structure.load.check(height * width, max_pixels)
    except DecodeFault as fault:
        raise DecodeFault(fault.reason, name) from None
    except TooCostly as error:
        raise DecodeFault(str(error), name) from None
    except _PILLOW_FAULTS as error:
        raise DecodeFault(_reason(kind, data, error, max_pixels), name) from error
    return (width, height) if turned else (height, width)


def read_bytes(path: str | Path, *, root: str | Path | None = None) -> bytes:
    """The bytes of a regular file of at most MAX_FILE_BYTES; with `root`, one inside that folder.

    Raises DecodeFault for a folder, device, FIFO, broken link, link out of `root`, missing or
    unreadable file.
    """
    name = os.fspath(path)
    try:
        file = _open_inside(name, root)
    except FileNotFoundError as error:
        reason = "is a broken link" if os.path.islink(name) else _open_reason(error)
        raise DecodeFault(reason, name) from error
    except (OSError, ValueError) as error:
        raise DecodeFault(_open_reason(error), name) from error
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            what = "folder" if stat.S_ISDIR(facts.st_mode) else "device, pipe or socket"
            raise DecodeFault(f"is a {what}, not a file", name)
        if facts.st_size > MAX_FILE_BYTES:
            raise DecodeFault(f"{facts.st_size} bytes; limit {MAX_FILE_BYTES}", name)
        parts, left = [], facts.st_size  # what the file held when it was opened
        while left and (part := os.read(file, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    except OSError as error:
        raise DecodeFault(_open_reason(error), name) from error
    finally:
        os.close(file)


def _open_inside(name: str, root: str | Path | None) -> int:
    """A descriptor of the file. Raises DecodeFault for a link out of `root`, OSError, ValueError.

    The folder is resolved once: five system calls an image fewer, each of which would hand the
    lock of the interpreter to another thread.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    no_link = getattr(os, "O_NOFOLLOW", None)
    if root is None:
        return os.open(name, flags)
    if no_link is not None and _folder_is_inside(os.path.dirname(name), os.fspath(root)):
        try:
            return os.open(name, flags | no_link)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
    if not is_inside(name, root):
        raise DecodeFault(
            f"is a link out of {os.fspath(root)}; links out of the folder are not followed", name
        )
    return os.open(name, flags)


@lru_cache(maxsize=65_536)
def _folder_is_inside(folder: str, root: str) -> bool:
    return is_inside(folder, root)


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


def is_inside(path: str | Path, root: str | Path) -> bool:
    """Whether `path`, all links resolved, lies in the folder `root`."""
    try:
        real, top = os.path.realpath(path), os.path.realpath(root)
    except (OSError, ValueError):
        return False
    return real == top or real.startswith(top.rstrip(os.sep) + os.sep)


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
    try:
        with _quiet(), _opened(kind, data, load) as image:
            _check_size(image.height, image.width, name, max_pixels)
            load.check(image.height * image.width, max_pixels)
            if image.format == "PPM" and image.tile[0][0] == "ppm":
                return _scaled_pnm(image, data), 1
            image.load()
            return rgb_pixels(image), _orientation(image)
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


def rgb_pixels(image: Image.Image) -> Pixels:
    """Pixels (H, W, 3) of a loaded image of any mode. Raises DecodeFault for 32-bit pixels."""
    if image.mode in ("I", "F") and image.format != "PPM":
        raise DecodeFault(
            f"pixels of 32 bits (mode {image.mode}); images of 8 or 16 bits are accepted"
        )
    step = max(1, _BAND_PIXELS // image.width)
    if step >= image.height:
        return _rgb_band(image)
    result = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        result[top:bottom] = _rgb_band(image.crop((0, top, image.width, bottom)))
    return result


def _rgb_band(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        return _rgb_from_gray16(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _rgb_from_gray16(image: Image.Image) -> Pixels:
    deep = np.asarray(image).astype(np.uint32)  # (H, W), 0..65535
    gray = ((deep + 128) // 257).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        gray[deep == transparent] = 255
    return np.repeat(gray[:, :, None], 3, axis=2)  # (H, W, 3)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels (H, W, 3) turned as EXIF orientation 1..8 asks."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)  # (W, H, 3)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def exif_turn(pixels: Pixels, image: Image.Image) -> Pixels:
    """`pixels` (H, W, 3) of `image`, upright."""
    return upright(pixels, _orientation(image))


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif", b"")
    if image.format == "TIFF" or not isinstance(
        exif, bytes
    ):  # Pillow itself turns TIFFs while loading them
        return 1
    return exif_orientation(exif)


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


def _open_reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "is no valid file name"
    reasons = {
        errno.ENOENT: "does not exist",
        errno.EACCES: "no permission to read it",
        errno.ELOOP: "is a loop of links",
        errno.ENXIO: "is a device, pipe or socket, not a file",
        errno.EISDIR: "is a folder, not a file",
    }
    return reasons.get(error.errno or 0, f"cannot be read ({error.strerror})")


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

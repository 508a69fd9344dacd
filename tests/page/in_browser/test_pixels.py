"""The page's pixels are those of `vitrail predict`, bit for bit: resize, crop, PNG, orientation."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.page.in_browser.in_node import array, needs_node, picture, run, text_of
from vitrail.data.images.decode import decode
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.images.tf_resize import tf_resize

pytestmark = needs_node
# prime sizes, one side up and the other down, one pixel, a strip
SHAPES = [
    ((61, 47), (23, 29)),
    ((13, 17), (31, 37)),
    ((101, 7), (11, 43)),
    ((5, 103), (19, 3)),
    ((1, 1), (7, 5)),
    ((2, 211), (13, 1)),
    ((67, 53), (67, 31)),
    ((67, 53), (41, 53)),
]


def noise(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Extreme and middling values: overshoot must be cut, halves must be rounded."""
    chosen = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    return np.where(chosen < 60, 0, np.where(chosen > 200, 255, chosen)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_resize_equals_pillow(kind: str) -> None:
    cases, expected = [], []
    for (size, target), channels in itertools.product(SHAPES, (1, 3)):
        pixels = noise(*size, channels, seed=sum(size))
        image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
        resized = image.resize(target[::-1], Image.Resampling[kind.upper()])
        expected.append(np.asarray(resized).reshape(*target, channels))
        one = {"picture": picture(pixels), "height": target[0], "width": target[1]}
        cases.append({"action": "pillow", "kind": kind} | one)
    for found, wanted in zip(run(cases), expected, strict=True):
        np.testing.assert_array_equal(array(found, wanted.shape), wanted)


def test_the_fourth_byte_of_a_pixel_is_not_looked_at() -> None:
    padded, size = noise(31, 43, 4), {"height": 11, "width": 13, "kind": "bicubic"}
    plain = np.ascontiguousarray(padded[:, :, :3])
    cases = [{"action": "pillow", "picture": picture(padded, 3)} | size]
    cases += [{"action": "pillow", "picture": picture(plain)} | size]
    found = run(cases)
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["bilinear", "bilinear_antialias", "area"])
def test_resize_equals_tensorflow(method: Any) -> None:
    cases, expected = [], []
    for (size, target), channels in itertools.product(SHAPES, (1, 3)):
        pixels = noise(*size, channels, seed=sum(size))
        expected.append(tf_resize(pixels, *target, method))
        one = {"picture": picture(pixels), "height": target[0], "width": target[1]}
        cases.append({"action": "tensorflow", "method": method} | one)
    for found, wanted in zip(run(cases), expected, strict=True):
        np.testing.assert_array_equal(array(found, wanted.shape, np.float32), wanted)


def records() -> list[Preprocess]:
    """Every way in which an image is resized and cropped."""
    gray: dict[str, Any] = {"mean": (0.3,), "std": (0.2,)}
    square: dict[str, Any] = {"height": 24, "width": 24}
    odd: dict[str, Any] = {"height": 24, "width": 18}
    tf: dict[str, Any] = {"resizer": "tensorflow", "interpolation": "bilinear"}
    return [
        Preprocess(**square, resize=(24, 24)),
        Preprocess(**odd, resize=(24, 18), interpolation="lanczos"),
        Preprocess(**square, resize=27, crop="center"),
        Preprocess(**square, resize=27, crop="center_floor", interpolation="bilinear"),
        Preprocess(**odd, resize=21, crop="center", interpolation="nearest"),
        Preprocess(**odd, resize=(29, 31), crop="center"),
        Preprocess(**square, **gray, resize=26, crop="center"),
        Preprocess(**square, **tf, resize=27, crop="center_floor"),
        Preprocess(**square, **tf, resize=(24, 24), keep_floats=True, antialias=False),
        Preprocess(**odd, **tf | {"interpolation": "area"}, resize=(29, 31), crop="center"),
        Preprocess(**square, **gray, **tf, resize=(24, 24)),
    ]


def test_model_input_equals_preprocess() -> None:
    cases, expected = [], []
    for record, size in itertools.product(records(), [(61, 47), (37, 83), (24, 24), (19, 300)]):
        for channels in (1, 3):
            pixels = noise(*size, channels, seed=size[1])
            values = record.values(pixels).transpose(2, 0, 1)
            expected.append(values.astype(np.float32))
            made = {"picture": picture(pixels), "record": record.to_json()}
            cases.append({"action": "input"} | made)
    for found, wanted in zip(run(cases), expected, strict=True):
        np.testing.assert_array_equal(array(found, wanted.shape, np.float32), wanted)


SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
ADAM7 += [(0, 1, 1, 2)]


def chunk(name: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check


def png(kind: int, depth: int, *, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A PNG of random samples, with another filter every line; extra: chunks before the data."""
    rng = np.random.default_rng(kind * 100 + depth)
    height, width = 19, 23
    samples = rng.integers(0, 2**depth, (height, width, SAMPLES[kind]))
    passes = [samples[y::down, x::across] for x, y, across, down in ADAM7]
    raw = b"".join(lines(one, depth) for one in (passes if interlaced else [samples]))
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    palette = chunk(b"PLTE", rng.integers(0, 256, 3 * 2**depth).astype(np.uint8).tobytes())
    body = (palette if kind == 3 else b"") + extra + chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def lines(samples: NDArray[Any], depth: int) -> bytes:
    """Packed and filtered lines of (H, W, C) samples; filters take turns."""
    flat = samples.reshape(len(samples), -1)
    bits = (flat[:, :, None] >> np.arange(depth)[::-1]) & 1  # highest first
    packed = np.packbits(bits.reshape(len(flat), -1).astype(np.uint8), axis=1).astype(int)
    apart, before, found = (
        max(1, samples.shape[2] * depth // 8),
        np.zeros(packed.shape[1], int),
        b"",
    )
    for number, line in enumerate(packed):
        found += filtered(number % 5, line, before, apart)
        before = line
    return found


def filtered(kind: int, line: NDArray[np.int64], above: NDArray[np.int64], apart: int) -> bytes:
    left = np.concatenate([np.zeros(apart, int), line])[: len(line)]
    corner = np.concatenate([np.zeros(apart, int), above])[: len(line)]
    middle = left + above - corner
    distances = np.stack([np.abs(middle - one) for one in (left, above, corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
    guess = [0 * line, left, above, (left + above) // 2, paeth][kind]
    return bytes([kind]) + np.asarray((line - guess) % 256, np.uint8).tobytes()


KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]


def png_files() -> list[bytes]:
    files = [png(*one, interlaced=turn) for one in KINDS for turn in (False, True)]
    for index in (0, 1):
        files.append(png(0, 1, extra=chunk(b"tRNS", struct.pack(">H", index))))
    files += [png(0, depth, extra=chunk(b"tRNS", struct.pack(">H", 3))) for depth in (2, 4, 8)]
    files.append(png(3, 8, extra=chunk(b"tRNS", bytes(range(0, 250, 7)))))
    files.append(png(3, 4, extra=chunk(b"tRNS", bytes([0, 128, 255]))))
    files += [png(2, 8, extra=chunk(b"gAMA", struct.pack(">I", 100000)))]
    for turn in range(1, 9):
        exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([turn]) + b"\0\0\0\0\0\0"
        files.append(png(2, 8, extra=chunk(b"eXIf", exif)))
    return files


def test_png_equals_decode() -> None:
    files = png_files()
    found = run([{"action": "png", "data": text_of(one)} for one in files])
    for number, (one, made) in enumerate(zip(files, found, strict=True)):
        wanted = decode(one)
        assert (made["height"], made["width"]) == wanted.shape[:2], number
        np.testing.assert_array_equal(
            array(made["data"], wanted.shape), wanted, err_msg=str(number)
        )


def test_transparent_colours_of_png() -> None:
    """tRNS of gray with 16 bits and of RGB, at a value that occurs."""
    base = decode(png(2, 8))
    clear = struct.pack(">HHH", *(int(one) for one in base[5, 7]))
    files = [png(2, 8, extra=chunk(b"tRNS", clear))]
    files.append(png(0, 16, extra=chunk(b"tRNS", struct.pack(">H", 12345))))
    for one, made in zip(
        files, run([{"action": "png", "data": text_of(one)} for one in files]), strict=True
    ):
        np.testing.assert_array_equal(array(made["data"], decode(one).shape), decode(one))
    assert (decode(files[0])[5, 7] == 255).all()


def test_damaged_png_is_refused_by_both() -> None:
    whole = png(2, 8)
    broken = [whole[:40], whole[:-200], whole.replace(b"IHDR\0\0", b"IHDR\0\1", 1)]
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for made in run([{"action": "png", "data": text_of(one)} for one in broken]):
        assert "error" in made
    for one in broken:
        with pytest.raises(DecodeFault):
            decode(one)
    (made,) = run([{"action": "png", "data": text_of(bytes(flipped))}])
    assert "error" in made


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_sizes_and_orientation_from_headers() -> None:
    image, exif = Image.fromarray(noise(31, 43, 3)), Image.Exif()
    exif[0x0112] = 6
    files = [
        *(saved(image, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP")),
        saved(image, "WEBP", lossless=True),
        saved(image.convert("RGBA"), "WEBP"),
        saved(image, "JPEG", progressive=True),
        saved(image.convert("L"), "JPEG"),
    ]
    turned = [saved(image, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP")]
    for made in run([{"action": "inspect", "data": text_of(one)} for one in files]):
        assert (made["height"], made["width"], made["orientation"]) == (31, 43, 1)
    for made in run([{"action": "inspect", "data": text_of(one)} for one in turned]):
        assert (made["height"], made["width"], made["orientation"]) == (31, 43, 6)


REFUSED = {
    b"": "empty file",
    b"hello, this is text\n": "is text",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>": "is SVG",
    b"<!doctype html><p>": "is an HTML page",
    b"%PDF-1.7\n": "a PDF",
    b"II*\0" + bytes(40): "TIFF",
    b"\0\0\0\x1cftypavif" + bytes(40): "AVIF",
    bytes(range(1, 200)): "not an image",
    b"\xff\xd8\xff\xe0": "truncated",
    b"\x89PNG\r\n\x1a\n": "truncated",
    b"GIF89a\0\0\0\0": "at least one pixel",
    b"GIF89a\xff\xff\xff\xff": "limit",
}


def test_other_files_are_refused_with_a_reason() -> None:
    cases = [{"action": "inspect", "data": text_of(one)} for one in REFUSED]
    for made, reason in zip(run(cases), REFUSED.values(), strict=True):
        assert reason in made["error"]


def test_the_end_of_a_small_copy_is_not_the_end_of_the_image() -> None:
    """Cameras put a JPEG into the EXIF block of a JPEG."""
    image = Image.fromarray(noise(64, 64, 3))
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + saved(image.resize((16, 16)), "JPEG")
    whole = saved(image, "JPEG", exif=block)
    assert whole.count(b"\xff\xd9") == 2
    cut, made = run([{"action": "inspect", "data": text_of(one)} for one in (whole[:-300], whole)])
    assert "truncated" in cut["error"]
    assert made["width"] == 64


def test_a_jpeg_without_its_end_is_refused_by_both() -> None:
    whole = saved(Image.fromarray(noise(64, 64, 3)), "JPEG")
    for cut in (whole[: len(whole) // 2], whole[:-2]):
        (made,) = run([{"action": "inspect", "data": text_of(cut)}])
        assert "truncated" in made["error"]
    with pytest.raises(DecodeFault):
        decode(whole[: len(whole) // 2])

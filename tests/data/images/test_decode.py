"""Decoding: equal to Pillow where Pillow is right, a named reason where an image is not usable."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.data.odd_images import FORMATS, encoded, mutants, noise
from vitrail.data.images import decode as module
from vitrail.data.images import image_file, rgb
from vitrail.data.images.decode import decode, decode_size, read_image
from vitrail.data.images.image_file import DecodeFault, read_bytes
from vitrail.data.images.image_structure import structure_of

ODD = Path(__file__).parent / "odd"
# File -> shape, or a part of the reason.
EXPECTED: dict[str, tuple[int, int] | str] = {
    "hopper.jpg": (128, 128),
    "hopper_gray.jpg": (128, 128),
    "pil_sample_cmyk.jpg": (100, 100),
    "i_trns.png": (64, 64),
    "1_trns.png": (64, 64),
    "decompression_bomb_extents.gif": (100, 100),
    "png_decompression_dos.png": "Decompressed data too large",
    "multipage.tiff": (10, 10),
    "16bit.cropped.tif": (64, 64),
    "transparent.webp": (150, 200),
    "bmp_b_badwidth.bmp": "274877898816 pixels; limit 64000000",
    "truncated_jpeg.jpg": "truncated file (6698 bytes; its end is missing)",
    "oom.tif": "damaged TIFF file",
    "padded_idat.png": (10, 256),
    "multiple_exif.jpg": (1, 1),
    "no_palette.gif": (1, 1),
}
NEEDS_MORE_PIXELS = "made_big_9000x9000.png"  # 81 M, the limit is 64 M (--max-pixels)


def reason(data: bytes, name: str = "", max_pixels: int = module.MAX_PIXELS) -> str:
    """Why `data` is refused."""
    with pytest.raises(DecodeFault) as caught:
        decode(data, name=name, max_pixels=max_pixels)
    assert caught.value.code == "VIT-330"
    assert caught.value.reason in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_odd_files(name: str) -> None:
    data, expected = (ODD / name).read_bytes(), EXPECTED[name]
    if isinstance(expected, str):
        assert expected in reason(data, name)
    else:
        pixels = decode(data, name=name)
        assert pixels.shape == (*expected, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        assert decode_size(data) == expected


def test_binary_pnm() -> None:
    gray = decode(b"P5\n3 2\n255\n" + bytes([0, 7, 200, 1, 2, 255]))
    np.testing.assert_array_equal(gray[:, :, 0], [[0, 7, 200], [1, 2, 255]])
    deep = decode(b"P5 3 1 65535 " + b"\x00\x00\x80\x80\xff\xff")  # divided by 257
    np.testing.assert_array_equal(deep[0], [[0] * 3, [128] * 3, [255] * 3])
    color = decode(b"P6\n# made by hand\n1 2\n255\n" + bytes(range(6)))
    np.testing.assert_array_equal(color, [[[0, 1, 2]], [[3, 4, 5]]])
    scaled = decode(b"P5 2 1 3 " + bytes([1, 3]))  # highest value 3
    np.testing.assert_array_equal(scaled[0, :, 0], [85, 255])
    assert "truncated" in reason(b"P6\n5 7\n255\n" + bytes(31))
    scaled = decode(b"P6 1 2 1000 " + np.array([0, 500, 999, 1000, 1001, 2], ">u2").tobytes())
    np.testing.assert_array_equal(scaled, [[[0, 128, 255]], [[255, 255, 1]]])
    deep = decode(b"P5 4 1 4095 " + np.array([0, 1, 2048, 4095], ">u2").tobytes())
    np.testing.assert_array_equal(deep[0, :, 0], [0, 0, 128, 255])
    assert "truncated" in reason(b"P5 3 3 100 " + bytes(8))


def test_every_odd_file_has_its_expectation() -> None:
    assert sorted(EXPECTED) == sorted(p.name for p in ODD.iterdir() if p.suffix != ".md")


@pytest.mark.data
@pytest.mark.promise("D1")
def test_every_file_of_the_manifest_behaves_as_it_says(
    shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "odd_images"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    seen = 0
    for entry in files:
        name, expect = entry["file"], entry["expect"]
        data = (folder / name).read_bytes()
        started = time.perf_counter()
        try:
            limit = 100_000_000 if name == NEEDS_MORE_PIXELS else module.MAX_PIXELS
            shape = decode(data, name=name, max_pixels=limit).shape
        except DecodeFault as fault:
            outcome = (expect != "decode", str(fault))
        else:
            outcome = (expect != "reject" and len(shape) == 3 and shape[2] == 3, name)
        assert outcome[0], outcome[1]
        assert time.perf_counter() - started < 10, name
        seen += 1
    assert seen == len(files) == 73
    capfd.readouterr()  # libtiff writes about broken tags by itself


@pytest.mark.data
def test_eight_orientations_of_one_scene_look_the_same(shared_data: Path) -> None:
    paths = [shared_data / "odd_images" / f"exif_Landscape_{k}.jpg" for k in range(1, 9)]
    if not paths[0].is_file():
        pytest.skip(f"{paths[0]} is absent")
    small = [read_image(path)[::40, ::40].astype(np.float64) for path in paths]
    for picture in small[1:]:
        assert picture.shape == small[0].shape
        assert np.abs(picture - small[0]).mean() < 12


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 48), (101, 67), (17, 16)])
def test_jpeg_is_pillows_bit_for_bit(
    subsampling: str, progressive: bool, size: tuple[int, int]
) -> None:
    pixels = noise(*size)
    data = encoded(pixels, "JPEG", quality=83, subsampling=subsampling, progressive=progressive)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(data), expected)
    load = structure_of("jpeg", data).load
    assert module._fast_jpeg(data, load, "", 10**6) is not None, "simplejpeg was not used"
    padded = decode(data, padded=True)
    assert padded.shape[2] == 4
    assert np.array_equal(padded[:, :, :3], expected)


@pytest.mark.parametrize("quality", [5, 50, 100])
def test_gray_jpeg_becomes_three_equal_channels(quality: int) -> None:
    data = encoded(noise(43, 29, 1), "JPEG", quality=quality)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    pixels = decode(data)
    assert pixels.shape == (43, 29, 3)
    assert all(np.array_equal(pixels[:, :, channel], expected) for channel in range(3))


def test_jpeg_stored_as_rgb_and_cmyk_are_pillows() -> None:
    rgb = encoded(noise(31, 37), "JPEG", keep_rgb=True)
    cmyk = encoded(Image.fromarray(noise(31, 37)).convert("CMYK"), "JPEG")
    for data in (rgb, cmyk, (ODD / "pil_sample_cmyk.jpg").read_bytes()):
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(decode(data), np.asarray(image.convert("RGB")))


def test_cmyk_is_not_inverted() -> None:
    white = Image.new("CMYK", (23, 19), (0, 0, 0, 0))  # no ink
    assert decode(encoded(white, "JPEG")).min() > 250


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_back_the_pixels(kind: str) -> None:
    pixels = noise(29, 31)
    assert np.array_equal(decode(encoded(pixels, kind)), pixels)
    assert np.array_equal(decode(encoded(pixels, "WEBP", lossless=True)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_as_pillow_does(orientation: int, kind: str) -> None:
    image = Image.fromarray(noise(24, 40))
    image.getexif()[0x0112] = orientation
    data = encoded(image, kind, exif=image.getexif())
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    pixels = decode(data)
    assert np.array_equal(pixels, expected)
    assert pixels.flags.c_contiguous
    assert decode_size(data) == expected.shape[:2] == ((24, 40) if orientation < 5 else (40, 24))


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*" + b"\xff" * 40])
def test_damaged_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    pixels = noise(16, 24)
    data = encoded(pixels, "JPEG")
    block = b"Exif\0\0" + exif
    tagged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    assert np.array_equal(decode(tagged), decode(data))


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    deep = (np.arange(256 * 3, dtype=np.uint32) * 65535 // 767).astype(np.uint16).reshape(24, 32)
    expected = np.rint(deep / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        pixels = decode(encoded(Image.fromarray(deep), kind))
        assert np.array_equal(pixels[:, :, 0], expected), kind
        assert np.array_equal(pixels[:, :, 2], expected), kind


def test_transparency_is_composited_on_white() -> None:
    rgba = np.zeros((4, 5, 4), np.uint8)
    rgba[:, :, 0] = 200
    rgba[:, :, 3] = np.array([0, 51, 102, 204, 255])
    expected = np.rint((rgba[:, :, :3] * (rgba[:, :, 3:] / 255.0)) + (255 - rgba[:, :, 3:]))
    pixels = decode(encoded(Image.fromarray(rgba), "PNG"))
    assert np.abs(pixels - expected).max() <= 1
    gray_alpha = Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8), "LA")
    assert decode(encoded(gray_alpha, "PNG")).tolist() == [[[255] * 3, [10] * 3]]


def test_palette_transparency_and_gray_key() -> None:
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    pixels = decode(encoded(palette, "PNG", transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 2].tolist() == [10, 20, 30]
    deep = Image.fromarray(np.array([[257, 514]], np.uint16))
    assert decode(encoded(deep, "PNG", transparency=257))[:, :, 0].tolist() == [[255, 2]]


def test_animation_gives_its_first_image() -> None:
    frames = [Image.fromarray(noise(20, 30, seed=k)).quantize(32) for k in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data), np.asarray(frames[0].convert("RGB")))
    pages = [Image.fromarray(noise(20, 30, seed=k)) for k in range(2)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.array_equal(decode(data), np.asarray(pages[0]))


def test_large_images_in_bands_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.concatenate([noise(53, 31), noise(53, 31, 1, seed=3)], axis=2)
    files = [encoded(Image.fromarray(rgba), "PNG"), encoded(noise(53, 31), "TIFF")]
    whole = [decode(data) for data in files]
    monkeypatch.setattr(rgb, "_BAND_PIXELS", 31 * 4)
    for data, expected in zip(files, whole, strict=True):
        assert np.array_equal(decode(data), expected)


def test_32_bit_pixels_are_refused_by_name() -> None:
    data = encoded(Image.fromarray(np.ones((4, 5), np.float32)), "TIFF")
    assert "32 bits" in reason(data)


def png_claiming(height: int, width: int) -> bytes:
    """A PNG whose header claims a size that its data has not."""
    data = bytearray(encoded(noise(4, 4), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.promise("D1")
def test_bombs_are_refused_from_the_header() -> None:
    started = time.perf_counter()
    for data in (png_claiming(90_000, 100_000), encoded(noise(8, 8), "JPEG")):
        if data[:2] == b"\xff\xd8":
            place = data.index(b"\xff\xc0") + 5
            data = data[:place] + struct.pack(">HH", 65500, 65500) + data[place + 4 :]
        assert "pixels; limit 64000000 (--max-pixels)" in reason(data)
        with pytest.raises(DecodeFault, match="limit 64000000"):
            decode_size(data)
    assert reason(png_claiming(90_000, 100_000)).startswith("9000000000 pixels")
    assert time.perf_counter() - started < 1


def test_limits_of_size_and_aspect() -> None:
    assert "a side has at most 16384" in reason(png_claiming(100, 16_385))
    assert "differ by more than 1000 times" in reason(png_claiming(1, 1_001))
    assert decode(encoded(noise(1, 1000), "PNG")).shape == (1, 1000, 3)
    data = encoded(noise(10, 10), "PNG")
    assert decode(data, max_pixels=100).shape == (10, 10, 3)
    assert reason(data, max_pixels=99) == "100 pixels; limit 99 (--max-pixels)"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file (0 bytes)"),
        (bytes(400), "only zero bytes (400)"),
        (b"<!DOCTYPE html><html>", "is an HTML page inside a .jpg name"),
        (b"hello, this is a list\n", "is text inside a .jpg name"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is HEIC inside a .jpg name; not an accepted format"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "is AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"P2\n2 2\n255\n1 2 3 4", "is PNM as text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b'<?xml version="1.0"?><svg>', "is SVG"),
        (b"\x89\xab\xcd\xef" * 9, "is not an image in an accepted format"),
    ],
)
def test_reasons_name_what_a_file_is(data: bytes, words: str) -> None:
    assert words in reason(data, "cat/0012.jpg")


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_files_are_refused_at_every_length(kind: str) -> None:
    data = encoded(noise(40, 50), kind)
    whole = decode(data)
    refused = 0
    for percent in range(100):
        cut = data[: len(data) * percent // 100]
        try:
            pixels = decode(cut)
        except DecodeFault:
            refused += 1
        else:  # a few formats end in bytes that hold no pixels
            assert np.array_equal(pixels, whole), percent
    assert refused >= 90


def test_truncation_says_how_much_is_there() -> None:
    for kind in ("PNG", "WEBP", "BMP"):
        data = encoded(noise(40, 50), kind)
        cut = data[: len(data) // 2]
        assert reason(cut) == f"truncated file ({len(cut)} of {len(data)} bytes)", kind
    jpeg = encoded(noise(40, 50), "JPEG")
    assert reason(jpeg[:600]) == "truncated file (600 bytes; its end is missing)"


def test_extension_does_not_matter() -> None:
    pixels = noise(9, 11)
    assert np.array_equal(decode(encoded(pixels, "PNG"), name="x.jpg"), pixels)


def test_fault_survives_pickling_between_processes() -> None:
    fault = DecodeFault("empty file (0 bytes)", "a.jpg")
    for other in (pickle.loads(pickle.dumps(fault)), copy.copy(fault)):
        assert (other.reason, other.name, str(other)) == (fault.reason, fault.name, str(fault))


def fuzz(number: int, seed: int) -> int:
    """Decode `number` mutants of each format; how many were refused."""
    refused = 0
    for place, kind in enumerate(FORMATS):
        pixels: NDArray[np.uint8] = noise(24, 32)
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
        for data in mutants(encoded(pixels, kind, **options), number, seed + place):
            started = time.perf_counter()
            try:
                result = decode(data, max_pixels=1_000_000)
                assert result.ndim == 3
                assert result.shape[2] == 3
            except DecodeFault:
                refused += 1
            try:
                decode_size(data, max_pixels=1_000_000)
            except DecodeFault:
                pass
            assert time.perf_counter() - started < 2, (kind, data[:64])
    return refused


@pytest.mark.promise("D1")
def test_mutants_are_decoded_or_refused_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    assert fuzz(64, seed=1) > 100
    capfd.readouterr()


@pytest.mark.slow
@pytest.mark.promise("D1")
def test_five_thousand_mutants(capfd: pytest.CaptureFixture[str]) -> None:
    assert fuzz(834, seed=1000) > 1000
    capfd.readouterr()


def test_only_regular_files_inside_the_root_are_read(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "secret.png"
    root.mkdir()
    outside.write_bytes(encoded(noise(5, 5), "PNG"))
    good = root / "a.png"
    good.write_bytes(outside.read_bytes())
    (root / "in.png").symlink_to("a.png")
    (root / "out.png").symlink_to(outside)
    (root / "loop.png").symlink_to("loop.png")
    (root / "away").symlink_to(outside.parent)  # no link itself, but behind one
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    assert read_bytes(root / "in.png", root=root) == good.read_bytes()
    assert read_image(good, root=root).shape == (5, 5, 3)
    cases = {
        "out.png": "link out of",
        f"away/{outside.name}": "link out of",
        "loop.png": "loop of links",
        "folder.jpg": "is a folder",
        "pipe.jpg": "pipe",
        "none.png": "does not exist",
        "nul\0.png": "file name",
    }
    for name, words in cases.items():
        started = time.perf_counter()
        checked = root if words == "link out of" else None
        with pytest.raises(DecodeFault, match=words):
            read_bytes(f"{root}/{name}", root=checked)
        assert time.perf_counter() - started < 1, name


def test_unreadable_and_oversized_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(30, 30), "PNG"))
    for one in (image_file, module):  # of a file, and of bytes from elsewhere
        monkeypatch.setattr(one, "MAX_FILE_BYTES", 100)
    with pytest.raises(DecodeFault, match="bytes; limit 100"):
        read_bytes(path)
    assert "limit 100" in reason(path.read_bytes())
    monkeypatch.undo()
    path.chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    with pytest.raises(DecodeFault, match="no permission"):
        read_bytes(path)


def test_warnings_about_metadata_are_quiet_in_every_thread_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread warns while this one decodes: that warning is not lost."""
    decoding, warned = threading.Event(), threading.Event()

    def load(image: Image.Image) -> NDArray[np.uint8]:
        warnings.warn("odd metadata", UserWarning, stacklevel=1)
        decoding.set()
        assert warned.wait(10)
        return np.asarray(image.convert("RGB"))

    def other() -> None:
        assert decoding.wait(10)
        warnings.warn("of the user", UserWarning, stacklevel=1)
        warned.set()

    monkeypatch.setattr(module, "rgb_pixels", load)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        threads = [
            threading.Thread(target=decode, args=(encoded(noise(8, 9), "png"),)),
            threading.Thread(target=other),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [str(one.message) for one in seen] == ["of the user"]

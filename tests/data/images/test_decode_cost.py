"""One image costs at most 2 s and 512 MB, whatever its bytes (D9)."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.odd_images import FORMATS, encoded, mutants, noise
from tests.data.slow_images import (
    LARGE,
    MIB,
    SMALL,
    jpeg_scans,
    jpeg_with,
    large,
    measure,
    png_spam,
    write_all,
)
from vitrail.data.images.decode import decode, decode_size
from vitrail.data.images.decode_cost import MAX_PIXELS, Load, MeteredFile, TooCostly, reads_of
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.image_header import image_format
from vitrail.data.images.image_structure import structure_of

MAX_SECS, MAX_MIB = 2.0, 512 * 1e6 / MIB
SECS_A_MIB = 0.25  # of a file that is only padded; 64 s at 256 MiB before
BOUNDED = frozenset(  # by a limit of their own, not by their size
    (
        "pnm-scaled",
        "tiff-jpeg-strips",
        "webp-frames",
        "png-packed-texts",
        "tiff-longs",
        "bmp-runs-within-the-limit",
        "bmp-nothing",
        "bmp-short-rows-within-the-limit",
    )
)
SAMPLE = (
    *("jpeg-scans-odd-sampling", "jpeg-scans-four", "jpeg-fill", "jpeg-apps-cmyk", "png-profiles"),
    *("png-empty-idat", "png-blocks", "gif-comments", "gif-clears", "webp-chunks", "bmp-runs"),
    "bmp-short-rows",
    *("pnm-comments", "tiff-tiles", "tiff-tags", "tiff-blocks", "tiff-jpeg-scans"),
)


def reason(data: bytes) -> str:
    """Why `data` is refused, by both ways in."""
    with pytest.raises(DecodeFault) as caught:
        decode(data)
    with pytest.raises(DecodeFault) as again:
        decode_size(data)
    assert again.value.reason == caught.value.reason
    return caught.value.reason


def check_costs(paths: list[Path]) -> None:
    rows = measure(paths)
    assert len(rows) == len(paths)
    slow = [row for row in rows if row[2] > MAX_SECS or row[3] > MAX_MIB]
    assert slow == []
    padded = [row for row in rows if row[0] in SMALL and row[0] not in BOUNDED]
    assert [row for row in padded if row[2] > 0.1 + SECS_A_MIB * row[4] / MIB] == []


@pytest.mark.promise("D9")
def test_crafted_images_cost_little(tmp_path: Path) -> None:
    check_costs(write_all({name: SMALL[name] for name in SAMPLE}, tmp_path))


@pytest.mark.slow
@pytest.mark.promise("D9")
def test_all_small_crafted_images_cost_little(tmp_path: Path) -> None:
    check_costs(write_all(SMALL, tmp_path))


@pytest.mark.slow
@pytest.mark.promise("D9")
@pytest.mark.parametrize("name", sorted(LARGE))
def test_the_largest_images_cost_little(name: str, tmp_path: Path) -> None:
    check_costs(write_all({name: LARGE[name]}, tmp_path))


def mutated(number: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`number` damaged files by name: half of them honest images of every kind, half crafted."""
    honest = {kind: encoded(noise(97, 131), kind) for kind in FORMATS}
    honest["progressive"] = encoded(noise(97, 131), "JPEG", progressive=True, subsampling=0)
    honest["lzw"] = encoded(noise(97, 131), "TIFF", compression="tiff_lzw")
    crafted = {name: make() for name, make in SMALL.items()}
    for files in (honest, {name: data for name, data in crafted.items() if len(data) < 2 * MIB}):
        share = -(-number // (2 * len(files)))
        for place, (name, data) in enumerate(files.items()):
            for k, mutant in enumerate(mutants(data, share, seed + place)):
                yield f"{name}.{k}", mutant


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.promise("D9")
def test_three_thousand_mutants_cost_little(tmp_path: Path) -> None:
    seed, seen, costly = int(os.environ.get("VITRAIL_TEST_SEED", "0")), 0, []
    files = mutated(3_000, seed)
    while some := list(islice(files, 100)):
        paths = write_all({name: partial(bytes, data) for name, data in some}, tmp_path)
        rows = measure(paths)
        costly += [row for row in rows if row[2] > MAX_SECS or row[3] > MAX_MIB]
        seen += len(rows)
        for path in paths:
            path.unlink()
    assert seen >= 3_000
    assert costly == []


@pytest.mark.promise("D9")
def test_reasons_tell_what_is_too_much() -> None:
    assert reason(jpeg_scans(8000, 1000, (0x31, 0x11, 0x11))).startswith("JPEG with 1000 scans of")
    assert "fill bytes" in reason(jpeg_with(b"\xff" * 100_000))
    assert "segments" in reason(jpeg_with(b"\xff\xef\0\2" * 3_000, "CMYK"))
    assert "bytes of data for 8 x 8 px" in reason(png_spam(MIB, 8))
    for name in ("png-profiles", "webp-chunks", "gif-comments", "pnm-spaces", "tiff-tiles"):
        assert reason(SMALL[name]())


def test_the_limits_grow_with_max_pixels() -> None:
    """Where a user asks for larger images than usual, time and memory are theirs."""
    load = Load("X", 100.0, 10.0)
    load.check(15_000_000, MAX_PIXELS)
    with pytest.raises(TooCostly, match="too slow to decode"):
        load.check(17_000_000, MAX_PIXELS)
    load.check(17_000_000, 2 * MAX_PIXELS)
    with pytest.raises(TooCostly, match="too slow"):
        load.check(17_000_000, MAX_PIXELS // 2)  # a lower limit of pixels lowers no other
    with pytest.raises(TooCostly, match="too much memory"):
        Load("X", 1.0, 10.0).check(51_000_000, MAX_PIXELS)


def test_small_reads_are_counted_not_timed() -> None:
    data = bytes(10 * MIB)
    file = MeteredFile(data, Load("X", 1.0, 1.0, max_reads=3))
    assert [len(file.read(2)) for _ in range(3)] == [2, 2, 2]
    with pytest.raises(TooCostly, match="small pieces"):
        file.read(2)
    assert reads_of(len(data)) > 3 * len(data) // 8192, "PNG reads thrice for a chunk of 8 kB"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_usual_photographs_are_far_from_the_limits(progressive: bool, subsampling: str) -> None:
    """24 million pixels, at a byte a pixel."""
    data = encoded(noise(300, 400), "JPEG", progressive=progressive, subsampling=subsampling)
    load = structure_of("jpeg", data).load
    load.ns = load.ns / len(data) * 12e6
    load.check(24_000_000, MAX_PIXELS)


@pytest.mark.parametrize("kind", FORMATS)
def test_honest_files_of_every_kind_are_decoded(kind: str) -> None:
    """With metadata of every kind that Pillow writes, and pages."""
    image = Image.fromarray(noise(64, 48))
    exif = Image.Exif()
    exif[0x010E] = "a scene" * 2_000
    options: dict[str, object] = {}
    if kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        options = {"exif": exif, "icc_profile": np.random.default_rng(0).bytes(300_000)}
    if kind in ("GIF", "TIFF", "WEBP"):
        options |= {"save_all": True, "append_images": [image.rotate(k) for k in range(4)]}
    assert decode(encoded(image, kind, **options)).shape == (64, 48, 3)


def test_segments_are_walked_once_and_give_the_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(noise(16, 24)), "JPEG", exif=exif, comment=b"c" * 60_000)
    assert structure_of("jpeg", data).exif.startswith((b"II*\0", b"MM\0*"))
    assert decode(data).shape == (24, 16, 3)
    filled = data[:2] + b"\xff" * 300 + data[2:]
    assert np.array_equal(decode(filled), decode(data))
    for cut in range(2, 400):  # never an error of its own
        structure_of("jpeg", data[:cut])


@pytest.mark.promise("D9")
def test_structures_of_mutants_are_found_or_refused() -> None:
    for place, kind in enumerate(FORMATS):
        for data in mutants(encoded(noise(24, 32), kind), 300, 77 + place):
            if found := image_format(data):
                with suppress(TooCostly):
                    structure_of(found, data)


@pytest.mark.data
@pytest.mark.promise("D9")
def test_no_good_image_is_refused(shared_data: Path) -> None:
    paths = sorted((shared_data / "caltech101").rglob("*.jpg"))[::10]
    odd = shared_data / "odd_images"
    if not paths or not odd.is_dir():
        pytest.skip(f"{shared_data} holds no images")
    for entry in json.loads((odd / "manifest.json").read_text(encoding="utf-8"))["files"]:
        is_huge = entry["file"].startswith("made_big")  # 81 million pixels
        if entry["expect"] == "decode" and not is_huge:
            paths.append(odd / entry["file"])
    for path in paths:
        data = path.read_bytes()
        load = structure_of(image_format(data), data).load
        height, width = decode_size(data)
        assert load.secs(height * width) < 0.8, path


def test_bombs_behind_an_honest_header_are_named() -> None:
    data = large("PNG", "RGBA", 100)
    assert decode(data).shape == (100, 100, 3)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (100, 100)
    assert "takes too much memory" in str(_fault(Load("PNG", 1.0, 9.0, bytes=5e8), 1))


def _fault(load: Load, pixels: int) -> TooCostly:
    with pytest.raises(TooCostly) as caught:
        load.check(pixels, MAX_PIXELS)
    return caught.value

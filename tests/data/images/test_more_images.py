"""Files that hold several images: told by their structure, and said."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.cli_command import run
from vitrail.data.images.more_images import holds_more

KINDS = {"GIF": "gif", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}


def encoded(kind: str, count: int, seed: int = 0, **options: Any) -> bytes:
    """A file of `count` different images, 17 x 13 px."""
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 256, (17, 13, 3), np.uint8)) for _ in range(count)]
    stream = io.BytesIO()
    more: dict[str, Any] = {"save_all": True, "append_images": images[1:]} if count > 1 else {}
    images[0].save(stream, kind, **more, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_and_several(kind: str) -> None:
    assert not holds_more(encoded(kind, 1))
    assert holds_more(encoded(kind, 2))
    assert holds_more(encoded(kind, 5))


def test_big_tiff_and_a_lossless_animation() -> None:
    assert [holds_more(encoded("TIFF", n, big_tiff=True)) for n in (1, 3)] == [False, True]
    assert [holds_more(encoded("WEBP", n, lossless=True)) for n in (1, 3)] == [False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_ends_the_look(kind: str) -> None:
    data = encoded(kind, 3)
    for size in range(len(data)):
        holds_more(data[:size])
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 5):
            damaged[place] = rng.integers(0, 256)
        holds_more(bytes(damaged))


def test_a_look_is_short_whatever_a_file_holds() -> None:
    """Blocks of one byte, of which a file of 16 MB has millions."""
    gif, png, webp = (encoded(kind, 1) for kind in ("GIF", "PNG", "WEBP"))
    start = 13 + 3 * 2 ** ((gif[10] & 7) + 1)  # behind the table of colours
    files = [
        gif[:start] + b"\x21\xfe" + b"\x01a" * 8_000_000 + b"\0" + gif[start:],
        png[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 700_000 + png[33:],
        webp[:12] + b"abcd\0\0\0\0" * 1_000_000 + webp[12:],
    ]
    for data in files:
        began = time.process_time()
        assert not holds_more(data)
        assert time.process_time() - began < 0.2


def test_words_of_a_text_are_no_animation() -> None:
    png = encoded("PNG", 1)
    text = b"acTL\0\0\0\x07"
    chunk = len(text).to_bytes(4, "big") + b"tEXt" + text + b"\0\0\0\0"
    assert not holds_more(png[:33] + chunk + png[33:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    for number, name in enumerate(("a", "b")):
        (folder / name).mkdir()
        for k in range(12):
            kind = "GIF" if (number, k) in {(0, 3), (1, 7)} else "PNG"
            content = encoded(kind, 3 if kind == "GIF" else 1, 100 * number + k)
            (folder / name / f"{k:02d}.{KINDS[kind]}").write_bytes(content)
    return folder


def test_check_and_train_say_it(folder: Path, tmp_path: Path) -> None:
    words = "2 of 24 images are animations or have several pages"
    assert words in run("data", "check", folder).out
    settings = "--model vit_ti4 --model.depth 1 --model.width 48 --steps 2 --batch-size 4".split()
    trained = run("train", folder, *settings, "--out", tmp_path, "--image-size", "16")
    assert trained.code == 0, trained.err
    assert f"{words}: the first image of each is used" in trained.out + trained.err

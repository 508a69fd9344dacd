"""Files that hold several images: told by their structure, and said."""

from __future__ import annotations

import io
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

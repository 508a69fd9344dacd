"""Decoded images that are kept: decoded once, no bit changed, damage seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data.images.decode import decode
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.images.rgb import Pixels
from vitrail.data.loading import file_batches, file_loader
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.file_loader import FileLoader
from vitrail.data.loading.kept_pixels import KeptPixels
from vitrail.data.sources.open_data import FileSource
from vitrail.errors import DataError

NUM, SIZE = 7, (13, 11)
BYTES = 19 * 23 * 4  # of an image with the fourth byte of Pillow's layout
PREPARED = Preprocess(height=SIZE[0], width=SIZE[1], resize=SIZE, interpolation="bilinear")


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    generator = np.random.default_rng(0)
    for number in range(NUM):
        pixels = generator.integers(0, 256, (19, 23, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    paths = tuple(f"{number}.jpg" for number in range(NUM))
    return FileSource("few", ("a",), np.zeros(NUM, np.int64), root=str(tmp_path), paths=paths)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image was decoded."""
    counts: Counter[str] = Counter()

    def counted(data: bytes, *, name: str, **settings: Any) -> Pixels:
        counts[name] += 1
        return decode(data, name=name, **settings)

    monkeypatch.setattr(file_batches, "decode", counted)
    return counts


def loader_of(source: FileSource, room: int, monkeypatch: pytest.MonkeyPatch) -> FileLoader:
    """A batch is an epoch; room: bytes that may be kept."""
    monkeypatch.setattr(file_loader, "room_for_pixels", lambda _: room)
    augment = AugmentConfig(crop="inception", policy="randaugment", erasing=0.3)
    return FileLoader(source, PREPARED, augment, Batching(NUM))


def test_kept_images_are_decoded_once_and_change_no_bit(
    source: FileSource, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = [one.images for one in loader_of(source, 0, monkeypatch).batches(0, 5)]
    assert sorted(decoded.values()) == [5] * NUM
    decoded.clear()
    kept = [one.images for one in loader_of(source, NUM * BYTES, monkeypatch).batches(0, 5)]
    assert all(map(torch.equal, kept, straight))
    assert sorted(decoded.values()) == [1] * NUM


def test_where_not_all_find_room_nothing_is_kept(
    source: FileSource, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list(loader_of(source, NUM * BYTES - 1, monkeypatch).batches(0, 5))) == 5
    assert sorted(decoded.values()) == [5] * NUM


def test_an_image_that_is_damaged_meanwhile_is_named(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = loader_of(source, NUM * BYTES, monkeypatch).batches(0, 5)
    next(batches)
    (tmp_path / "3.jpg").write_bytes((tmp_path / "3.jpg").read_bytes()[:60])
    with pytest.raises(DataError, match=r"VIT-301.*3\.jpg"):
        list(batches)


def test_kept_pixels_cannot_be_written_to_and_fill_no_more_than_their_room() -> None:
    kept = KeptPixels(3, 3 * 12)
    pixels = np.zeros((2, 2, 3), np.uint8)
    kept.keep(0, b"a", pixels)
    kept.keep(1, b"b", np.zeros((2, 3, 3), np.uint8))  # larger than a third
    assert kept.get(0, b"a") is pixels
    assert kept.get(0, b"other") is None
    assert kept.get(1, b"b") is None
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 1
    for number in range(5):
        kept.keep(number, b"a", np.zeros((2, 2, 3), np.uint8))
    found = [kept.get(number, b"a") is not None for number in range(5)]
    assert found == [True, True, True, False, False]

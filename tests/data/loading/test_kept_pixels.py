"""Decoded images that are kept: read once, no bit changed, nothing kept where not all find room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import AugmentConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading import file_loader
from vitrail.data.loading.file_loader import FileLoader
from vitrail.data.loading.kept_pixels import KeptPixels
from vitrail.data.sources.open_data import FileSource

NUM, SIZE = 7, (13, 11)
BYTES = 19 * 23 * 4  # of an image with the fourth byte of Pillow's layout
PREPARED = Preprocess(height=SIZE[0], width=SIZE[1], resize=SIZE, interpolation="bilinear")


@dataclass(frozen=True, eq=False)
class Counted(FileSource):
    """Notes which images were read."""

    reads: Counter[int] = field(default_factory=Counter)

    def read(self, index: int) -> tuple[bytes, int]:
        self.reads[index] += 1
        return super().read(index)


@pytest.fixture
def source(tmp_path: Path) -> Counted:
    generator = np.random.default_rng(0)
    for number in range(NUM):
        pixels = generator.integers(0, 256, (19, 23, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    paths = tuple(f"{number}.jpg" for number in range(NUM))
    return Counted("few", ("a",), np.zeros(NUM, np.int64), root=str(tmp_path), paths=paths)


@pytest.fixture
def epochs(source: Counted, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[torch.Tensor]]:
    """The batches of five epochs, with room for so many bytes."""

    def run(room: int) -> list[torch.Tensor]:
        monkeypatch.setattr(file_loader, "room_for_pixels", lambda _: room)
        source.reads.clear()
        augment = AugmentConfig(crop="inception", policy="randaugment", erasing=0.3)
        loader = FileLoader(source, PREPARED, augment, batch_size=NUM)
        return [batch.images for batch in loader.batches(0, 5)]

    return run


def test_kept_images_are_read_once_and_change_no_bit(
    source: Counted, epochs: Callable[[int], list[torch.Tensor]]
) -> None:
    straight = epochs(0)
    assert source.reads == Counter(dict.fromkeys(range(NUM), 5))
    assert all(map(torch.equal, epochs(NUM * BYTES), straight))
    assert source.reads == Counter(dict.fromkeys(range(NUM), 1))


def test_where_not_all_find_room_nothing_is_kept(
    source: Counted, epochs: Callable[[int], list[torch.Tensor]]
) -> None:
    epochs(NUM * BYTES - 1)
    assert source.reads == Counter(dict.fromkeys(range(NUM), 5))


def test_kept_pixels_cannot_be_written_to_and_fill_no_more_than_their_room() -> None:
    kept = KeptPixels(3, 3 * 12)
    pixels = np.zeros((2, 2, 3), np.uint8)
    kept.keep(0, pixels)
    kept.keep(1, np.zeros((2, 3, 3), np.uint8))  # larger than a third
    assert kept.get(0) is pixels
    assert kept.get(1) is None
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 1
    for number in range(5):
        kept.keep(number, np.zeros((2, 2, 3), np.uint8))
    assert [kept.get(number) is not None for number in range(5)] == [True, True, True, False, False]

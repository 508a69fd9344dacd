"""A process makes its own rows of a batch, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.config import AugmentConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.array_loader import ArrayLoader
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.data.loading.slots import Slots, count_rows
from vitrail.data.sources.open_data import open_data

B = 24
SLOTS = [
    Slots(B, 0, 12),
    Slots(B, 12, 24),
    Slots(B, 0, 12, has_before=True),
    Slots(B, 6, 18, pieces=2, has_before=True),
    Slots(B, 0, 24, pieces=4),
]


def test_the_row_before_the_first_is_the_last() -> None:
    pieces = Slots(B, 0, 12, pieces=2, has_before=True).rows()
    assert [piece.tolist() for piece in pieces] == [[23, *range(6)], [5, *range(6, 12)]]


@pytest.mark.parametrize("slots", SLOTS)
def test_rows_are_those_of_the_whole_batch(slots: Slots) -> None:
    """Of images in memory; crops and flips by whole pixels, over a change of epoch."""
    train = open_data("builtin:digits").train
    preprocess = Preprocess(height=8, width=8, resize=(8, 8), mean=(0.5,), std=(0.5,))
    augment = AugmentConfig(crop="pad_crop", crop_pad=2)
    whole, part = (
        ArrayLoader(train, preprocess, augment, Batching(B, slots=one)) for one in (None, slots)
    )
    last = len(train) // B + 2
    for all_rows, mine in zip(
        whole.batches(last - 4, last), part.batches(last - 4, last), strict=True
    ):
        assert len(mine.images) == count_rows(B, slots)
        for piece, rows in zip(slots.split(mine), slots.rows(), strict=True):
            assert torch.equal(piece.indices, all_rows.indices[rows])
            assert torch.equal(piece.labels, all_rows.labels[rows])
            assert torch.equal(piece.images, all_rows.images[rows])
            assert len(piece.images[piece.own]) == slots.length
            assert piece.first == rows[int(slots.has_before)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_reads_only_the_files_of_its_rows(tmp_path: Path, workers: int) -> None:
    from PIL import Image

    generator = np.random.default_rng(1)
    for number in range(40):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (11, 13, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    train = open_data(str(tmp_path)).train
    preprocess = Preprocess(height=8, width=8, resize=(8, 8))
    slots = Slots(8, 4, 8, has_before=True)
    whole, part = (
        make_loader(train, preprocess, AugmentConfig(), Batching(8, workers=workers, slots=one))
        for one in (None, slots)
    )
    for all_rows, mine in zip(whole.batches(0, 3), part.batches(0, 3), strict=True):
        assert torch.equal(mine.indices, all_rows.indices[3:])
        assert torch.equal(mine.images, all_rows.images[3:])

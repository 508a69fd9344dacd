"""The loader of a source: arrays are augmented in batches on the device, files in worker processes.

Both yield the same `Batch` in the same order, a pure function of (seed, step); see `order` and
`slots`.
"""

from __future__ import annotations

import torch

from vitrail.config import AugmentConfig
from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.array_loader import ArrayLoader
from vitrail.data.loading.batch import Batch, normalise
from vitrail.data.loading.file_loader import FileLoader
from vitrail.data.loading.lanes import Lanes
from vitrail.data.loading.slots import Slots
from vitrail.data.sources.open_data import Source

__all__ = ["ArrayLoader", "Batch", "FileLoader", "make_loader", "normalise"]


def make_loader(
    source: Source,
    preprocess: Preprocess,
    augment: AugmentConfig | None,
    *,
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    on_bad_file: str = "stop",
    max_pixels: int = MAX_PIXELS,
    device: str | torch.device = "cpu",
    slots: Slots | None = None,
    lanes: Lanes | None = None,
) -> ArrayLoader | FileLoader:
    """The loader that fits `source`.

    `augment` None trains on evaluation images. `batch_size` is the global one of training;
    `workers`, `max_pixels` and `on_bad_file` matter to files only. Batches' images lie on `device`,
    labels and indices on the CPU. slots: the rows of a training batch that are made; all without.
    lanes: the order of training batches, of files; drawn over all images without.
    """
    if source.images is not None:
        return ArrayLoader(
            source,
            preprocess,
            augment,
            batch_size=batch_size,
            seed=seed,
            device=device,
            slots=slots,
        )
    return FileLoader(
        source,
        preprocess,
        augment,
        batch_size=batch_size,
        seed=seed,
        workers=workers,
        on_bad_file=on_bad_file,
        max_pixels=max_pixels,
        device=device,
        slots=slots,
        lanes=lanes,
    )

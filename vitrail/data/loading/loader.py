"""The loader of a source: arrays are augmented in batches on the device, files in worker processes.

Both yield the same `Batch` in the same order, a pure function of (seed, step); see `order` and
`slots`.
"""

from __future__ import annotations

from vitrail.config import AugmentConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.array_loader import ArrayLoader
from vitrail.data.loading.batch import Batch, normalise
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.file_loader import FileLoader
from vitrail.data.sources.open_data import Source

__all__ = ["ArrayLoader", "Batch", "Batching", "FileLoader", "make_loader", "normalise"]


def make_loader(
    source: Source,
    preprocess: Preprocess,
    augment: AugmentConfig | None,
    batching: Batching,
) -> ArrayLoader | FileLoader:
    """The loader that fits `source`. `augment` None trains on evaluation images."""
    kind = FileLoader if source.images is None else ArrayLoader
    return kind(source, preprocess, augment, batching)

"""Evaluation batches as arrays of numpy, for engines that need no torch.

The same images in the same order with the same values as the loader of `loader.py` gives.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.decode import decode
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch
from vitrail.data.loading.isolated import each, is_cheap
from vitrail.data.sources.many_labels import targets
from vitrail.data.sources.source import Readable, Source
from vitrail.errors import DataError

WAY_OUT = (
    "Repair or remove it; all of them: vitrail data check DATA. To go on without: --on-bad-file "
    "skip, which train, lr-find, tune, eval and probe take."
)

Values = NDArray[Any]


def numpy_batches(
    source: Source, preprocess: Preprocess, *, batch_size: int, workers: int, max_pixels: int
) -> Generator[Batch, None, None]:
    """Every image once, in order; the last batch may be smaller. Files are decoded by `workers`
    processes, one at least, where these are cheap to start. Raises DataError VIT-301.
    """
    one = partial(_values, preprocess, max_pixels)
    with closing(_all(source, one, workers, max_pixels)) as images:
        for first in range(0, len(source), batch_size):
            stacked = np.stack([_usable(image) for image in islice(images, batch_size)])
            indices = np.arange(first, first + len(stacked), dtype=np.int64)
            yield _batch(stacked, targets(source.labels, indices), indices)


def _batch(images: Any, labels: Any, indices: Any) -> Batch:
    return Batch(images, labels, indices)


def _all(
    source: Source, one: partial[Values | DataError], workers: int, max_pixels: int
) -> Generator[Values | DataError, None, None]:
    if source.images is None and is_cheap():
        yield from each(source, one, workers=max(1, workers), chunk=4, max_pixels=max_pixels)
    else:
        yield from _in_turn(source, one)


def _in_turn(source: Source, one: partial[Values | DataError]) -> Iterator[Values | DataError]:
    for index in range(len(source)):
        yield one(source, index)


def _values(
    preprocess: Preprocess, max_pixels: int, source: Readable, index: int
) -> Values | DataError:
    """Values 0..255 (C, h, w) of an image, or the error that says why there are none."""
    name = source.source_id(index)
    try:
        data, _ = source.read(index)
        if not isinstance(data, np.ndarray):
            data = decode(data, name=name, max_pixels=max_pixels)
        return np.ascontiguousarray(preprocess.values(data).transpose(2, 0, 1))
    except DecodeFault as fault:
        name, reason = fault.name or name, fault.reason
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except MemoryError:
        reason = "not enough memory to decode it"
    return DataError(
        "VIT-301",
        f"{name}: {reason}",
        hint=WAY_OUT,
    )


def _usable(image: Values | DataError) -> Values:
    if isinstance(image, DataError):
        raise image
    return image

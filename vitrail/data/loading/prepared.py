"""Images as a model is shown them, or what is wrong with each."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.image_file import DecodeFault, read_bytes
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.isolated import each
from vitrail.data.sources.source import Readable
from vitrail.errors import DataError
from vitrail.prediction import Picture, Prepared, as_inputs, name_of
from vitrail.system.interrupts import Threads

MAX_DECODERS = 8  # threads, or processes


def prepared_files(
    preprocess: Preprocess, paths: Sequence[str], workers: int
) -> Generator[tuple[str, Prepared], None, None]:
    """The path of each file, and what the model is shown (C, H, W) or what is wrong with it; made
    by `workers` processes, which closing ends.
    """
    return each(_Files(tuple(paths)), partial(_file, preprocess), workers=workers, chunk=4)


def prepared_ahead(
    prepare: Callable[[Picture], Prepared], inputs: Picture | Iterable[Picture], batch_size: int
) -> Generator[tuple[tuple[str, ...], list[Prepared]], None, None]:
    """The names of each batch of inputs, and what `prepare` makes of them in threads, in which the
    next batch is made while this one is used.
    """
    numbered = enumerate(as_inputs(inputs))
    with Threads(min(MAX_DECODERS, os.cpu_count() or 1), "decode") as pool:

        def submitted() -> list[tuple[str, Future[Prepared]]]:
            pictures = islice(numbered, batch_size)
            return [(name_of(index, one), pool.submit(prepare, one)) for index, one in pictures]

        waiting = submitted()
        while waiting:
            following = submitted()
            prepared = [pool.result_of(one, name=name) for name, one in waiting]
            yield tuple(name for name, _ in waiting), prepared
            waiting = following


@dataclass(frozen=True)
class _Files:
    """Paths as a source without labels."""

    paths: tuple[str, ...]
    name: str = "files"
    classes: tuple[str, ...] = ()

    @property
    def labels(self) -> NDArray[Any]:
        """None of them has a label: zeros."""
        return np.zeros(len(self.paths), np.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[bytes, Any]:
        """The bytes of a file. Raises DecodeFault."""
        return read_bytes(self.paths[index]), 0

    def source_id(self, index: int) -> str:
        """The path."""
        return self.paths[index]


def _file(preprocess: Preprocess, source: Readable, index: int) -> tuple[str, Prepared]:
    """The path of a file, and what the model is shown (C, H, W) or what is wrong with it."""
    name = source.source_id(index)
    try:
        data, _ = source.read(index)
    except DecodeFault as fault:
        return name, fault.reason
    return name, prepared_image(preprocess, data)


def prepared_image(preprocess: Preprocess, picture: Any) -> Prepared:
    """What the model is shown of an image (C, H, W), or what is wrong with it."""
    try:
        return preprocess.floats(picture)
    except DecodeFault as fault:
        return fault.reason
    except DataError as error:
        return error.message
    except MemoryError:
        return "not enough memory to decode it"
    except (TypeError, ValueError, OSError) as error:
        return f"cannot be used as an image: {error}"

"""Images as a model is shown them, or what is wrong with each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.image_file import DecodeFault, read_bytes
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.isolated import each
from vitrail.data.sources.source import Readable
from vitrail.errors import DataError


def prepared_files(
    preprocess: Preprocess, paths: Sequence[str], workers: int
) -> Generator[tuple[str, NDArray[np.float32] | str], None, None]:
    """The path of each file, and what the model is shown (C, H, W) or what is wrong with it; made
    by `workers` processes, which closing ends.
    """
    return each(_Files(tuple(paths)), partial(_file, preprocess), workers=workers, chunk=4)


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


def _file(
    preprocess: Preprocess, source: Readable, index: int
) -> tuple[str, NDArray[np.float32] | str]:
    """The path of a file, and what the model is shown (C, H, W) or what is wrong with it."""
    name = source.source_id(index)
    try:
        data, _ = source.read(index)
    except DecodeFault as fault:
        return name, fault.reason
    return name, prepared_image(preprocess, data)


def prepared_image(preprocess: Preprocess, picture: Any) -> NDArray[np.float32] | str:
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

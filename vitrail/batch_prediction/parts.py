"""Images in parts of equal size, each known by all that its answers follow from.

The key of a part is a digest of the model (its weights, preprocessing, classes and engine), of what
is asked of it, and of its images: path, bytes and time of change. Whoever asks the same again finds
the parts that are there; where an image has changed, its part has another key.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vitrail.spelling import as_utf8

SCHEMA = 1


@dataclass(frozen=True)
class Images:
    """Paths in the order of the answer; why some are not even opened."""

    paths: Sequence[str]
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Images that are computed and written together; key: 16 hex digits."""

    index: int
    images: Images
    key: str

    @property
    def name(self) -> str:
        """The file of its answers."""
        return f"part-{self.index:05d}-{self.key}.jsonl"

    def __len__(self) -> int:
        return len(self.images.paths)


def parts_of(images: Images, rows: int, asked: Mapping[str, object]) -> list[Part]:
    """`images` in parts of `rows`, the last may be smaller; asked: the model and what is asked."""
    return [
        Part(index, part, _key(part, asked)) for index, part in enumerate(_slices(images, rows))
    ]


def key_of(parts: Sequence[Part]) -> str:
    """64 hex digits of all parts."""
    return hashlib.sha256("".join(part.key for part in parts).encode()).hexdigest()


def _slices(images: Images, rows: int) -> Iterator[Images]:
    for first in range(0, len(images.paths), rows):
        paths = images.paths[first : first + rows]
        refused = images.refused
        yield Images(paths, {one: refused[one] for one in paths if one in refused})


def _key(images: Images, asked: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps([SCHEMA, asked], sort_keys=True).encode())
    for path in images.paths:
        line = [as_utf8(path), as_utf8(images.refused.get(path, "")), *_stamp(path)]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()[:16]


def _stamp(path: str) -> tuple[int, int]:
    """Bytes and time of change in ns; zeros where the file cannot be looked at."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0, 0
    return found.st_size, found.st_mtime_ns

"""Something done with each image of a source, in processes, in order.

A decoder is native code that reads what strangers wrote. Where it crashes, hangs or eats memory,
the image has its reason and nothing else happens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.loading.crew import Crew
from vitrail.data.loading.worker_crashes import TrackedSource
from vitrail.data.loading.worker_process import ROOM_BYTES, Worker, new_place
from vitrail.data.sources.source import Readable

Result = TypeVar("Result")


def is_cheap() -> bool:
    """Whether a process costs little to start here: a copy of this one."""
    return sys.platform == "linux"


@dataclass(frozen=True)
class _Chunks(Generic[Result]):
    """What a worker does: `job(source, index)` for a chunk of images."""

    job: Callable[[Readable, int], Result]
    source: Readable
    size: int

    def __call__(self, number: int) -> list[Result]:
        first = number * self.size
        stop = min(first + self.size, len(self.source))
        return [self.job(self.source, index) for index in range(first, stop)]


def each(
    source: Readable,
    job: Callable[[Readable, int], Result],
    *,
    workers: int = 1,
    chunk: int = 16,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Result, None, None]:
    """`job(source, index)` of every image, by `workers` processes; closing ends them. An image
    that processes failed at raises DecodeFault when `job` reads it.
    """
    numbers = range(-(-len(source) // chunk))
    room = ROOM_BYTES * max(1, max_pixels // MAX_PIXELS)

    def start(number: int) -> Worker:
        place = new_place()
        watched = TrackedSource(source, place)
        work: Callable[[int], Any] = _Chunks(job, watched, chunk)
        return Worker(work, place, watched, number, room)

    crew = Crew(start, min(max(1, workers), max(1, len(numbers))))
    try:
        for number in numbers:
            yield from crew.result(number, numbers)
    finally:
        crew.close()

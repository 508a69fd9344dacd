"""Decoded images that are kept for the next epoch, where all of a small data set find room.

Decoding gives the same pixels each time, so keeping them changes no bit of a run. A process keeps
its own: a worker that meets an image for the second time reads it, and decodes it only where its
bytes are others, so that a file that was changed or damaged meanwhile is seen as ever.
"""

from __future__ import annotations

from vitrail.data.images.rgb import Pixels
from vitrail.device import memory_bytes, processes_here

MOST_BYTES = 2**30  # of all workers together
SHARE_OF_MEMORY = 1 / 8  # of what is free


def room_for_pixels(workers: int) -> int:
    """Bytes that each of so many processes may keep; 0 workers: this process."""
    room = min(MOST_BYTES, int(memory_bytes() * SHARE_OF_MEMORY))
    return room // (max(1, workers) * processes_here())


class KeptPixels:
    """Pixels (H, W, C) by the number of an image. An image is kept where `count` images of its size
    would find room, so that large data sets and large images cost nothing.
    """

    def __init__(self, count: int, room: int) -> None:
        self._largest = room // max(1, count)
        self._room = room
        self._pixels: dict[int, tuple[int, Pixels]] = {}  # with a hash of the bytes

    def get(self, index: int, data: bytes) -> Pixels | None:
        """What was kept of an image, where its bytes are the same."""
        known, pixels = self._pixels.get(index, (0, None))
        return pixels if pixels is not None and known == hash(data) else None

    def keep(self, index: int, data: bytes, pixels: Pixels) -> None:
        """Keep the pixels of an image, which nobody may write to from now on."""
        if pixels.nbytes > min(self._largest, self._room) or index in self._pixels:
            return
        pixels.setflags(write=False)
        self._room -= pixels.nbytes
        self._pixels[index] = (hash(data), pixels)

"""What decoding one image may cost, told from its structure before a decoder sees its bytes.

A few hundred bytes can claim work for minutes: scans without content, tiles of one pixel, padding
that a parser in Python reads byte by byte. So each image has a `Load`: an upper estimate of time
and memory, from rates measured on one busy core (decode.py times them in `benchmarks`), refused
above `MAX_SECS` and `MAX_BYTES`. Both grow with `--max-pixels` where that is above its default.
Parsers that run in Python read through a `MeteredFile`, which stops after too many small reads: a
count, not a clock, so that the same file is accepted on every machine.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

MAX_PIXELS = 64_000_000
MAX_SECS = 1.6  # of estimated time, so that 2 s hold
MAX_BYTES = 500_000_000  # of memory at its peak, the file included
FREE_READS = 20_000  # a few milliseconds
BYTES_A_READ = 512  # further reads: PNG takes three for a chunk of 8 kB
STOP_SECS = 1.5  # processor time of a stream whose blocks cannot be counted


class TooCostly(ValueError):
    """An image that takes too much time or memory; the text is the reason, for people."""


@dataclass(slots=True)
class Load:
    """An upper estimate for one image. what: for people; the rates are those of a busy core."""

    what: str
    ns_per_pixel: float
    bytes_per_pixel: float
    ns: float = 0.0  # whatever the number of pixels
    bytes: float = 0.0  # likewise, with the file itself
    max_reads: int = FREE_READS
    is_timed: bool = False  # whether `MeteredFile` looks at the clock

    def secs(self, pixels: int) -> float:
        """Estimated time for so many pixels."""
        return (self.ns + self.ns_per_pixel * pixels) / 1e9

    def check(self, pixels: int, max_pixels: int) -> None:
        """Raise TooCostly for an image of so many pixels that takes too long or too much memory."""
        share = max(1.0, max_pixels / MAX_PIXELS)
        if (secs := self.secs(pixels)) > MAX_SECS * share:
            raise TooCostly(
                f"{self.what} of {pixels} pixels, too slow to decode (about {secs:.1f} s; limit "
                f"{MAX_SECS * share:.1f} s, which grows with --max-pixels)"
            )
        if (memory := self.bytes + self.bytes_per_pixel * pixels) > MAX_BYTES * share:
            raise TooCostly(
                f"{self.what} of {pixels} pixels takes too much memory (about {memory / 1e6:.0f} "
                f"MB; limit {MAX_BYTES * share / 1e6:.0f} MB, which grows with --max-pixels)"
            )


class MeteredFile(io.BytesIO):
    """The bytes of an image, for parsers in Python. Raises TooCostly after `load.max_reads` reads,
    or for a timed load after STOP_SECS of processor time.
    """

    def __init__(self, data: bytes, load: Load) -> None:
        super().__init__(data)
        self._left = load.max_reads
        self._what = load.what
        self._until = time.thread_time() + STOP_SECS if load.is_timed else 0.0

    def read(self, size: int | None = -1, /) -> bytes:
        """As io.BytesIO."""
        self._left -= 1
        if self._left < 0:
            raise TooCostly(f"{self._what} in too many small pieces; too slow to read")
        if self._until and time.thread_time() > self._until:
            raise TooCostly(f"{self._what} takes more than {STOP_SECS:g} s to unpack")
        return super().read(size)


def reads_of(num_bytes: int) -> int:
    """How many reads an honest file of that size takes at most."""
    return FREE_READS + num_bytes // BYTES_A_READ

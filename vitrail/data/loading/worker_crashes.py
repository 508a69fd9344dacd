"""Workers that die or hang while they read images: which one they were at, and what that says.

A decoder may crash or spin in native code, a system without memory kills whom it likes, a network
folder may not answer. The worker notes each image and the time in shared memory before it is
read, so that the parent knows afterwards. Its work is done again by a new worker: what a step holds
does not change. An image that two workers failed at in a row is taken for the cause and becomes a
image that cannot be used.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.rgb import Pixels
from vitrail.data.sources.source import Labels, Readable
from vitrail.errors import EnvironmentFault

DEATHS_OF_A_IMAGE = 2
MAX_RESTARTS = 10  # without a batch in between
NOWHERE = -1
REASON = "the process that decodes it crashes"
STALLED = "the process that reads or decodes it makes no progress"


Place = Any  # an array of two floats in shared memory, which ctypes has no name for


@dataclass(eq=False)
class TrackedSource:
    """A source whose reader leaves word of where it is. place: shared, the image and when it was
    begun; bad: why images are not read again.
    """

    source: Readable
    place: Place
    bad: dict[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the source."""
        return self.source.classes

    @property
    def labels(self) -> Labels:
        """Zeros without memory: a worker is asked for pixels, and mapped labels that it looked at
        would count as its memory.
        """
        return np.broadcast_to(np.int64(0), len(self))

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> tuple[bytes | Pixels, Any]:
        """As the source's. Raises DecodeFault for an image that workers failed at."""
        if index in self.bad:
            raise DecodeFault(self.bad[index])
        self._note(index)
        return self.source.read(index)

    def leave(self) -> None:
        """The last image that was read is done with."""
        self._note(NOWHERE)

    def _note(self, index: int) -> None:
        self.place[1] = time.monotonic()
        self.place[0] = index

    def source_id(self, index: int) -> str:
        """As the source's."""
        return self.source.source_id(index)


@dataclass
class WorkerDeaths:
    """What became of the workers of one loader."""

    counts: dict[int, int] = field(default_factory=dict)  # of images, since the last batch
    bad: dict[int, str] = field(default_factory=dict)  # image -> reason
    restarts: int = 0

    def finished(self) -> None:
        """A batch came through: nobody dies again and again."""
        self.restarts = 0
        self.counts = {}

    def note(self, place: int, code: int | None) -> None:
        """A worker at image `place` has ended with an exit code, or (None) was killed because it
        made no progress. Raises EnvironmentFault VIT-522 where they fail again and again.
        """
        if place != NOWHERE:
            self.counts[place] = self.counts.get(place, 0) + 1
            if self.counts[place] >= DEATHS_OF_A_IMAGE:
                self.bad[place] = STALLED if code is None else REASON
                self.restarts = 0  # that is progress
        self.restarts += 1
        if self.restarts > MAX_RESTARTS:
            raise EnvironmentFault(
                "VIT-522",
                f"workers that read images die again and again ({_how(code)}).",
                hint="A system without free memory does that: use fewer workers (--data.workers 0 "
                "needs none) or a smaller --batch-size.",
            )


def _how(code: int | None) -> str:
    """An exit code for people."""
    if code is None:
        return "no progress"
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"

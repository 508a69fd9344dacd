"""What a run knows of time: its seconds, the pace of its steps, the share of the processor it gets.

The pace is recent: on a busy machine the first second says little about the next minute.
Evaluations and checkpoints are not part of a step; waiting for images is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RECENT_SECS = 3.0  # steps that long ago count e times less
STALL = 4.0  # one step counts for so many others at most: a stall is no pace


@dataclass
class Window:
    """Sums since the last training record, so that a resumed run writes the same averages."""

    loss: float = 0.0
    correct: float = 0.0
    examples: int = 0
    steps: int = 0


class Clock:
    """Seconds of a run, those before a resume included, and its pace.

    age: seconds that this process had spent on the run when the clock was made. now, busy: seconds
    of the wall and of the processor.
    """

    def __init__(
        self,
        age: float = 0.0,
        now: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] = time.process_time,
    ) -> None:
        self.now, self._busy = now, busy
        self._start = now() - age
        self._before = 0.0
        self._mark: tuple[float, float] = (now(), busy())
        self._steps, self._step_secs = 0, 0.0
        self._lap: tuple[int, float, float] = (0, 0.0, 0.0)  # steps, their seconds, waiting
        self._recent: tuple[float, float, float] = (0.0, 0.0, 0.0)  # steps, wall, processor

    def add(self, seconds: float) -> None:
        """Count the seconds of the processes before this one."""
        self._before = seconds

    def seconds(self) -> float:
        """Seconds of the run so far."""
        return self._before + self.now() - self._start

    def start_steps(self, data_wait_secs: float = 0.0) -> None:
        """The first step begins now; for so long this process has waited for images before."""
        self._lap = (self._steps, self._step_secs, data_wait_secs)
        self.start_step()

    def start_step(self) -> None:
        """A step begins now."""
        self._mark = (self.now(), self._busy())

    def step(self) -> None:
        """The step is done."""
        wall, busy = self.now() - self._mark[0], self._busy() - self._mark[1]
        self.start_step()
        self._steps += 1
        self._step_secs += wall
        if self._steps == 1:  # the first one of a process sets things up
            return
        known = self._recent[0]
        counted = min(wall, STALL * self.pace()) if known >= 1 else wall
        fading = math.exp(-counted / RECENT_SECS)
        steps, walls, busies = (fading * value for value in self._recent)
        self._recent = (steps + 1, walls + counted, busies + busy * counted / max(wall, 1e-9))

    def also(self) -> None:
        """What came behind the step belongs to it: among other processes, the next images."""
        wall = self.now() - self._mark[0]
        self.start_step()
        self._step_secs += wall
        steps, walls, busies = self._recent
        if steps >= 1:
            self._recent = (steps, walls + min(wall, STALL * self.pace()), busies)

    def expect(self, secs_per_step: float) -> None:
        """The pace that was measured before the first step, to be forgotten as steps come in."""
        self._recent = (1.0, secs_per_step, 0.0)

    def lap(self, window: Window, data_wait_secs: float) -> dict[str, Any]:
        """Pace since the last call: images/s, ms a step, share of the time waiting for data."""
        steps, passed = self._steps - self._lap[0], self._step_secs - self._lap[1]
        waited = data_wait_secs - self._lap[2]
        self._lap = (self._steps, self._step_secs, data_wait_secs)
        passed = max(passed, 1e-9)
        images = window.examples / max(1, window.steps)
        return {
            "perf/images_per_s": round(images * steps / passed, 1),
            "perf/step_ms": round(1000 * passed / max(1, steps), 2),
            "perf/data_wait": round(share(waited, passed), 4),
        }

    @property
    def steps(self) -> int:
        """Steps of this process."""
        return self._steps

    def step_secs(self) -> float:
        """Seconds of all steps of this process."""
        return self._step_secs

    def secs_per_step(self) -> float:
        """Mean over the steps so far; NaN before the first."""
        return self._step_secs / self._steps if self._steps else math.nan

    def pace(self) -> float:
        """Seconds a step, of late; NaN where nothing is known."""
        steps, walls, _ = self._recent
        return walls / steps if steps else self.secs_per_step()

    def slowness(self, threads: int) -> float:
        """How many times as long things take of late because others use the cores too, 1 to 5."""
        _, walls, busies = self._recent
        return min(5.0, max(1.0, threads * walls / busies)) if busies > 0 else 1.0


def share(part: float, whole: float) -> float:
    """A part of a time, 0 to 1: two clocks never agree to the last microsecond."""
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0

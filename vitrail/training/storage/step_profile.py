"""`--profile N`: N steps under torch's profiler, as a trace for Perfetto or chrome://tracing.

The first steps of a process set things up and are left out. Each process writes a trace of its own
into `profile/` of the run; what it computes is not changed. The profiled steps are slower, and the
figures of pace that the run logs for them too (docs/time-and-memory.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from vitrail.errors import VitrailError
from vitrail.files import whole_file
from vitrail.training.storage.run_dir import RunDir

FOLDER = "profile"
LEFT_OUT = 3  # steps, before those that are recorded

Item = TypeVar("Item")


@dataclass
class StepProfile:
    """The profile of one process. steps: how many are recorded, 0 for none; rank: of the process;
    say: hears where the trace lies.
    """

    run: RunDir
    steps: int
    rank: int
    say: Callable[[str], None]
    _seen: int = 0
    _first: int = 0
    _last: int = 0
    _profiler: Any = field(default=None, repr=False)

    def __enter__(self) -> StepProfile:
        return self

    def __exit__(self, *_: object) -> None:
        if self.steps and self._profiler is None:
            self.say(
                f"profile: no step was recorded; the first {LEFT_OUT} of a process are left out, "
                f"and it took {self._seen}"
            )
        self._end()

    def begin(self, step: int) -> None:
        """Step `step` comes next: begin to record, or go on, or end."""
        if not self.steps:
            return
        if self._profiler is not None and step - self._first == self.steps:
            self._end()
        elif self._seen == LEFT_OUT:
            self._first, self._profiler = step, _profiler()
            self._profiler.start()
        self._seen, self._last = self._seen + 1, step

    def _end(self) -> None:
        """Write what was recorded, if that was not done."""
        if self._profiler is None:
            return
        profiler, self._profiler, self.steps = self._profiler, None, 0
        profiler.stop()
        name = f"steps-{self._first}-{self._last}.rank-{self.rank}.json"
        try:
            path = self.run.make(FOLDER) / name
            with whole_file(path, replace=True) as temporary:
                profiler.export_chrome_trace(str(temporary))
        except VitrailError as error:  # a run is not lost for want of a trace
            self.say(f"profile: {error.message}")
            return
        self.say(f"profile: {path}; open it in chrome://tracing or https://ui.perfetto.dev")

    def part(self, name: str) -> AbstractContextManager[Any]:
        """Around what stands in the trace as `name`."""
        if self._profiler is None:
            return nullcontext()
        return torch.profiler.record_function(f"vitrail: {name}")

    def named(self, name: str, items: Iterator[Item]) -> Iterator[Item]:
        """`items`, the wait for each of which stands in the trace as `name`."""
        while True:
            with self.part(name):
                item = next(items, None)
            if item is None:
                return
            yield item


def _profiler() -> Any:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it writes its own calls to the terminal
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    return torch.profiler.profile(activities=kinds, record_shapes=True)

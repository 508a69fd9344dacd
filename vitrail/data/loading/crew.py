"""Worker processes that do numbered jobs, with results in order.

One that dies or makes no progress is replaced, and its jobs are done again by the new one
(`worker_crashes.py`). The parent waits in short turns, so that a request to stop is seen whatever
the workers do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from vitrail.data.loading.worker_crashes import WorkerDeaths
from vitrail.data.loading.worker_process import LAST_SECS, Worker
from vitrail.system import interrupts

PREFETCH = 2  # jobs that a worker keeps ready


class Crew:
    """Some workers; results are asked for in rising order. start: a worker by its number."""

    def __init__(
        self, start: Callable[[int], Worker], num_workers: int, grace_secs: float = 0.0
    ) -> None:
        self._start, self._grace_secs = start, grace_secs
        self._workers: list[Worker] = []
        self._num_workers = num_workers
        self._next: int | None = None  # to be given out
        self._results: dict[int, Any] = {}
        self.deaths = WorkerDeaths()

    def result(self, number: int, numbers: range) -> Any:
        """What was made of `number`, the next one of `numbers` that is due."""
        if not self._workers:
            self._workers = [self._start(place) for place in range(self._num_workers)]
        self._next = number if self._next is None else self._next
        while number not in self._results:
            interrupts.check(self._grace_secs)
            self._hand_out(number, numbers.stop)
            self._wait()
        self.deaths.finished()
        return self._results.pop(number)

    def _hand_out(self, due: int, stop: int) -> None:
        """Every worker is kept busy; at most PREFETCH items each are under way or wait."""
        assert self._next is not None
        while self._next < min(stop, due + PREFETCH * len(self._workers)):
            worker = min(self._workers, key=lambda one: len(one.jobs))
            worker.give(self._next, self.deaths.bad)
            self._next += 1

    def _wait(self) -> None:
        """Take what comes within a short time; replace workers that died or hang."""
        pipes = {worker.pipe: worker for worker in self._workers}
        ends = {worker.process.sentinel: worker for worker in self._workers}
        ready = wait([*pipes, *ends], interrupts.TICK_SECS)
        lost = {ends[end] for end in ready if isinstance(end, int) and end in ends}
        for pipe in ready:
            if not isinstance(pipe, Connection) or (worker := pipes[pipe]) in lost:
                continue
            try:
                number, result, error = worker.take()
            except (EOFError, OSError):
                lost.add(worker)
                continue
            if error is not None:
                raise error
            self._results[number] = result
        for worker in lost:
            self._replace(worker, is_stalled=False)
        if not ready:
            for worker in [*self._workers]:
                if worker.idle_secs() > interrupts.STALL_SECS:
                    self._replace(worker, is_stalled=True)

    def _replace(self, worker: Worker, *, is_stalled: bool) -> None:
        place, jobs = int(worker.place[0]), [*worker.jobs]
        worker.kill()
        code = worker.bury(time.monotonic() + LAST_SECS)
        at = self._workers.index(worker)
        self.deaths.note(place, None if is_stalled else code)
        self._workers[at] = self._start(at)
        for number in jobs:
            self._workers[at].give(number, self.deaths.bad)

    def close(self) -> None:
        """End the workers, also those that are stopped or hang."""
        for worker in self._workers:
            worker.kill()
        until = time.monotonic() + LAST_SECS
        for worker in self._workers:
            worker.bury(until)
        self._workers = []

"""Worker processes that make the batches of a `FileLoader` in blocks of shared memory.

A worker makes a whole batch: it is given a number and writes the pixels into a block. One that dies
or makes no progress is replaced, and its numbers are made again by the new one (`crashes.py`). The
parent waits in short turns, so that a request to stop is seen whatever the workers do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from vitrail import interrupts
from vitrail.data.batch import Batch
from vitrail.data.crashes import NOWHERE, Deaths, Watched
from vitrail.data.decode import MAX_PIXELS
from vitrail.data.file_batches import EvalParts, Fault, Indices, TrainSteps
from vitrail.data.worker_process import LAST_SECS, ROOM_BYTES, Worker

PREFETCH = 2  # batches a worker keeps ready


@dataclass(frozen=True)
class InBlocks:
    """What workers run: item n is written to block n - first, counted round, and told by its
    indices.
    """

    steps: TrainSteps | EvalParts
    blocks: torch.Tensor  # (blocks, B, C, h, w), shared
    first: int

    def block(self, number: int) -> torch.Tensor:
        """Where item `number` is written."""
        return self.blocks[(number - self.first) % len(self.blocks)]

    def __call__(self, number: int) -> Indices | Fault:
        """Item `number`."""
        batch = self.steps.item(number, out=self.block(number))
        return batch if isinstance(batch, Fault) else batch.indices.numpy()


def in_workers(
    steps: TrainSteps | EvalParts,
    numbers: range,
    workers: int,
    batch_size: int,
    grace_secs: float = 0.0,
) -> Generator[Batch | Fault, None, None]:
    """Items `numbers`, made by `workers` processes; closing ends them.

    The blocks of shared memory are used over and over: fresh ones would be faulted in page by page
    on both sides. At most PREFETCH items of each worker are under way while one more is copied out.
    Raises Interrupted `grace_secs` after a request to stop.
    """
    num_workers = min(workers, max(1, len(numbers)))
    blocks = steps.block(num_workers * PREFETCH + 1, batch_size)
    blocks.share_memory_()  # type: ignore[no-untyped-call]
    made = InBlocks(steps, blocks, numbers.start)
    room = ROOM_BYTES * max(1, steps.max_pixels // MAX_PIXELS)

    def start(number: int) -> Worker:
        place = torch.tensor([NOWHERE, 0.0], dtype=torch.float64)
        place.share_memory_()  # type: ignore[no-untyped-call]
        watched = Watched(steps.source, place)
        job = replace(made, steps=replace(steps, source=watched))
        return Worker(job, place, watched, number, room)

    crew = Crew(start, num_workers, grace_secs)
    try:
        for number in numbers:
            item = crew.result(number, numbers)
            if isinstance(item, Fault):
                yield item
            else:
                images = made.block(number)[: len(item)].clone()
                yield Batch(
                    images, torch.from_numpy(steps.source.labels[item]), torch.from_numpy(item)
                )
    finally:
        crew.close()


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
        self.deaths = Deaths()

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

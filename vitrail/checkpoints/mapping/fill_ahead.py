"""Fills the tensors of several rules at once, in threads.

Reading, rearranging and looking for NaN all leave Python's lock alone, and most of their time goes
into fresh memory, which two threads get in half the time. At most `READERS` rules' tensors are in
memory beside what is kept, and one alone of those that are large.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
from torch import Tensor

from vitrail.checkpoints.mapping.scratch import Scratch

READERS = 2
WAITING = 8  # tasks; so that a failure is seen before all are begun
LARGE = 32 * 2**20  # bytes of one rule, as of blocks that are stacked in one tensor

Task = TypeVar("Task")
Result = TypeVar("Result")


def fill_ahead(
    tasks: Iterable[Task], fill: Callable[[Task, Scratch], Result], size_of: Callable[[Task], int]
) -> Iterator[tuple[Task, Result]]:
    """Each task with what `fill` makes of it, in order; `fill` has the scratch memory for itself
    until it returns. size_of: bytes. Raises what `fill` raises.
    """
    free = deque(Scratch() for _ in range(READERS))
    alone = threading.Lock()
    waiting: deque[tuple[Task, Future[Result]]] = deque()

    def run(task: Task) -> Result:
        with alone if size_of(task) > LARGE else nullcontext():
            scratch = free.popleft()
            try:
                return fill(task, scratch)
            finally:
                scratch.start()
                free.append(scratch)

    def taken() -> tuple[Task, Result]:
        task, future = waiting.popleft()
        return task, future.result()

    with ThreadPoolExecutor(READERS, thread_name_prefix="fill-ahead") as pool:
        try:
            for task in tasks:
                waiting.append((task, pool.submit(run, task)))
                if len(waiting) > WAITING:
                    yield taken()
            while waiting:
                yield taken()
        finally:
            pool.shutdown(cancel_futures=True)


def is_finite(value: Tensor) -> bool:
    """No NaN, no infinity in a float32 tensor. A sum shows both; einsum's takes half the time of
    NumPy's other one, and torch's threads would meet at each of some hundred tensors.
    """
    with np.errstate(all="ignore"):
        total = np.einsum(value.numpy(), list(range(value.dim())), [])
    return bool(np.isfinite(total)) or bool(value.isfinite().all())

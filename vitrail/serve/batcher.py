"""Images in, rows of probabilities out: small batches on engines that each have a thread.

An engine takes what waits, at most `batch` images, and by default waits for no more: batches form
where there is load and cost nothing where there is none. An image that nobody waits for any more,
or whose deadline has passed, is dropped before it is computed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.serve.admission import Admission
from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics

Row = NDArray[np.float32]
Compute = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (B, C, H, W) -> (B, K)
HUNG_SECS = 10.0


@dataclass(frozen=True)
class _Item:
    image: NDArray[np.float32]
    deadline: float  # of the event loop's clock
    answer: asyncio.Future[Row]


class Batcher:
    """One model on `engines` threads."""

    def __init__(
        self, compute: Compute, engines: int, limits: Limits, admission: Admission, metrics: Metrics
    ) -> None:
        self._compute, self._limits = compute, limits
        self._admission, self._metrics = admission, metrics
        self._engines = engines
        self._threads = ThreadPoolExecutor(engines, "engine")
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._busy_since: dict[int, float] = {}

    def start(self) -> None:
        """Begin to take images."""
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(self._engines)]

    async def row(self, image: NDArray[np.float32], deadline: float) -> Row:
        """Probabilities (K,) of a prepared image (C, H, W)."""
        answer: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Item(image, deadline, answer))
        return await answer

    @property
    def is_hung(self) -> bool:
        """Whether an engine has been at one batch for suspiciously long."""
        now = time.monotonic()
        return any(now - since > HUNG_SECS for since in self._busy_since.values())

    async def close(self) -> None:
        """Answer what waits, and end."""
        while not self._queue.empty() or self._busy_since:
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks)
        self._threads.shutdown(wait=False)

    async def _run(self, number: int) -> None:
        while True:
            batch = self._wanted(await self._take())
            if batch:
                await self._answer(number, batch)

    async def _take(self) -> list[_Item]:
        """At least one image, and what else waits (or comes within `wait_ms`)."""
        batch = [await self._queue.get()]
        until = asyncio.get_running_loop().time() + self._limits.wait_ms / 1000
        while len(batch) < self._limits.batch:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                break
            with suppress(TimeoutError):
                batch.append(await asyncio.wait_for(self._queue.get(), left))
        return batch

    def _wanted(self, batch: Sequence[_Item]) -> list[_Item]:
        now = asyncio.get_running_loop().time()
        for item in batch:
            if not item.answer.done() and now > item.deadline:
                item.answer.set_exception(TimeoutError())
        wanted = [item for item in batch if not item.answer.done()]
        self._metrics.add("vitrail_images_skipped_total", len(batch) - len(wanted))
        return wanted

    async def _answer(self, number: int, batch: Sequence[_Item]) -> None:
        """Every future of the batch gets a row or an error, whatever happens."""
        began = self._busy_since[number] = time.monotonic()
        loop = asyncio.get_running_loop()
        rows: Sequence[Any]
        try:
            images = np.stack([item.image for item in batch])
            rows = list(await loop.run_in_executor(self._threads, self._compute, images))
        except Exception as fault:
            rows = [fault] * len(batch)
        finally:
            del self._busy_since[number]
        self._count(len(batch), time.monotonic() - began)
        for item, row in zip(batch, rows, strict=True):
            if item.answer.done():
                continue
            if isinstance(row, Exception):
                item.answer.set_exception(row)
            else:
                item.answer.set_result(row)

    def _count(self, images: int, secs: float) -> None:
        self._admission.measured(secs, images, self._engines)
        self._metrics.add("vitrail_batches_total")
        self._metrics.add("vitrail_images_total", images)
        self._metrics.observe("vitrail_batch_seconds", secs)

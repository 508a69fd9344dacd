"""What the routes call: the models by name, room for requests, decoding, and the way to an end.

Phases: warming (alive, answers nobody) -> ready -> stopping (not ready any more, but answers: load
balancers need a while to notice) -> draining (answers what was accepted, refuses what is new).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import VitrailError
from vitrail.prediction import NOT_FINITE, is_answer
from vitrail.serve.admission import Admission
from vitrail.serve.batcher import Row
from vitrail.serve.decoders import Decoders, Want
from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics
from vitrail.serve.problem import Problem, refused
from vitrail.serve.served_model import ServedModel, Wanted

if TYPE_CHECKING:
    from vitrail.explain.explanation import Explanation

Phase = Literal["warming", "ready", "stopping", "draining"]
log = logging.getLogger("vitrail.serve")


@dataclass(frozen=True)
class How:
    """What is asked of an explanation, as `Classifier.explain` takes it; is_drawing: a PNG instead
    of numbers, in a style of `Explanation.overlay`.
    """

    method: str | None = None
    layer: int | str | None = None
    head: int | None = None
    target: str | None = None
    style: str = "heat"
    is_drawing: bool = False


class Service:
    """One server's state. engines: threads that compute each model."""

    def __init__(
        self, wanted: Sequence[Wanted], limits: Limits, *, engines: int = 1, decoders: int = 1
    ) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.admission = Admission(limits, self.metrics)
        self.phase: Phase = "warming"
        self.models: dict[str, ServedModel] = {}
        self.fault: VitrailError | None = None  # why it cannot start
        self._wanted, self._engines, self._num_decoders = list(wanted), engines, decoders
        self._decoders: Decoders | None = None
        self._explaining = ThreadPoolExecutor(1, "explain")
        self._reloading = asyncio.Lock()
        self._old: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """From warming to ready. Raises VitrailError."""
        self._decoders = Decoders(self._num_decoders, self.limits.max_pixels)
        await self._decoders.start()
        for one in self._wanted:
            self.models[one.name] = await self._started(one)
        if self.phase == "warming":
            self.phase = "ready"

    async def reload(self) -> None:
        """Load every model again; each takes its place when it is checked. One that fails leaves
        the old one in place.
        """
        if self.phase == "warming":  # they are being loaded
            return
        async with self._reloading:
            for one in self._wanted:
                try:
                    new = await self._started(one)
                except Exception as fault:
                    code = fault.code if isinstance(fault, VitrailError) else "VIT-100"
                    log.error("%s: not reloaded, the old one stays: %s", one.name, fault)
                    self.metrics.add("vitrail_reloads_total", outcome=code)
                    continue
                old, self.models[one.name] = self.models[one.name], new
                self.metrics.add("vitrail_reloads_total", outcome="ok")
                self._end_later(old)

    async def _started(self, wanted: Wanted) -> ServedModel:
        return await ServedModel.started(
            wanted, self._engines, self.limits, self.admission, self.metrics
        )

    def _end_later(self, old: ServedModel) -> None:
        async def end() -> None:
            while old.users:
                await asyncio.sleep(0.05)
            await old.batcher.close()

        task = asyncio.create_task(end())
        self._old.add(task)
        task.add_done_callback(self._old.discard)

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        hung = any(one.batcher.is_hung for one in self.models.values())
        return self.phase == "ready" and not hung

    @property
    def decoder_pids(self) -> list[int]:
        """The processes that decode."""
        return self._decoders.pids if self._decoders else []

    def check_open(self) -> None:
        """Raises Problem 503 VIT-912 or VIT-913 where nothing new is accepted."""
        if self.phase == "warming":
            raise Problem(503, "VIT-913", "the model is warming up", retry_secs=1)
        if self.phase == "draining":
            self.metrics.add("vitrail_refused_total", reason="draining")
            raise Problem(503, "VIT-912", "the server is ending", retry_secs=1, closes=True)

    @contextmanager
    def using(self, name: str | None) -> Iterator[ServedModel]:
        """One of the table, which stays until the block ends; the first without a name. Raises
        Problem 404.
        """
        if name is not None and name not in self.models:
            raise refused(404, "no such model")
        model = self.models[name] if name is not None else next(iter(self.models.values()))
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1

    def deadline(self) -> float:
        """When a request that begins now has to be answered, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self.limits.deadline_ms / 1000

    async def decoded(self, data: bytes, model: ServedModel, want: Want = "input") -> Any:
        """As `Decoders.decode`."""
        assert self._decoders is not None
        began = time.monotonic()
        found = await self._decoders.decode(data, model.classifier.preprocess, want)
        self.metrics.observe("vitrail_decode_seconds", time.monotonic() - began)
        self.metrics.set("vitrail_decoder_restarts_total", self._decoders.restarts)
        return found

    async def rows(
        self, model: ServedModel, images: Sequence[bytes | NDArray[np.float32]], deadline: float
    ) -> list[Row | str]:
        """Probabilities (K,) of each image, encoded or prepared, or what is wrong with it. Raises
        Problem 504 VIT-914.
        """
        try:
            async with asyncio.timeout_at(deadline), asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._row(model, one, deadline)) for one in images]
        except TimeoutError:
            raise expired() from None
        except BaseExceptionGroup as several:
            first = several.exceptions[0]
            raise (expired() if isinstance(first, TimeoutError) else first) from None
        return [task.result() for task in tasks]

    async def _row(
        self, model: ServedModel, image: bytes | NDArray[np.float32], deadline: float
    ) -> Row | str:
        shown = await self.decoded(image, model) if isinstance(image, bytes) else image
        if isinstance(shown, str):
            return shown
        row = await model.batcher.row(shown, deadline)
        return row if is_answer(row) else NOT_FINITE

    async def explanation(
        self,
        model: ServedModel,
        data: bytes,
        how: How,
        drawn: Callable[[Explanation, How], bytes],
        deadline: float,
    ) -> bytes | str:
        """The body that `drawn` makes of an explanation of an encoded image, or what is wrong with
        the image. One is computed at a time, on a thread of its own. Raises what
        `Classifier.explain_prepared` raises, Problem 504 VIT-914.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                found = await self.decoded(data, model, "both")
                if isinstance(found, str):
                    return found
                image, shown = found
                work = partial(_explained, model, image, shown, how, drawn)
                return await loop.run_in_executor(self._explaining, work)
        except TimeoutError:
            raise expired() from None

    async def close(self) -> None:
        """End the engines and the decoders; what they hold is answered first."""
        await asyncio.gather(*(one.batcher.close() for one in self.models.values()), *self._old)
        self._explaining.shutdown(wait=False, cancel_futures=True)
        if self._decoders is not None:
            self._decoders.close()


def _explained(
    model: ServedModel,
    image: NDArray[np.float32],
    shown: NDArray[np.uint8],
    how: How,
    drawn: Callable[[Explanation, How], bytes],
) -> bytes:
    found = model.classifier.explain_prepared(
        image, shown, how.method, layer=how.layer, head=how.head, target=how.target
    )
    return drawn(found, how)


def expired() -> Problem:
    """The time that a request had is over."""
    return Problem(504, "VIT-914", "the deadline passed before the answer was there")

"""Waits that end: a request to stop is seen within a fifth of a second, whatever is waited for.

A signal handler only notes the request (`ask`); whoever waits calls `check`. Threads are daemons:
one that hangs in native code or on a disk that does not answer must not keep the process alive.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import ParamSpec, TypeVar

from vitrail.errors import EnvironmentFault

TICK_SECS = 0.2
STALL_SECS = 60.0  # at one image; decoding takes 2 s at most, a disk may have to wake up
EVALUATION_SECS = 8.0  # that an evaluation may go on after a request to stop

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Interrupted(KeyboardInterrupt):
    """Somebody asked to stop. name: of the signal."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Request:
    """The one request of this process; signals belong to processes."""

    name: str | None = None
    at: float = 0.0


def ask(name: str) -> None:
    """Note that signal `name` came."""
    _Request.name, _Request.at = name, time.monotonic()


def forget() -> None:
    """There is no request any more."""
    _Request.name = None


def check(grace_secs: float = 0.0) -> None:
    """Raise Interrupted where somebody asked to stop at least so long ago."""
    if _Request.name is not None and time.monotonic() - _Request.at >= grace_secs:
        raise Interrupted(_Request.name)


def no_progress(name: str, secs: float) -> EnvironmentFault:
    """The error for an image that cannot be read: the disk does not answer."""
    return EnvironmentFault(
        "VIT-527",
        f"reading {name} makes no progress for {secs:.0f} s.",
        hint="The disk or network folder may not answer: try `cat` on the file. To "
        "continue a run: vitrail train --resume RUN.",
    )


class Threads(Executor):
    """A pool of `count` daemon threads; leaving it does not wait for them. grace_secs: for which
    its results are waited for after a request to stop.
    """

    def __init__(self, count: int, name: str, grace_secs: float = 0.0) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.count, self._grace_secs = count, grace_secs
        self._begun: dict[int, float] = {}  # futures that run: since when
        for number in range(count):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def submit(
        self,
        fn: Callable[Parameters, Result],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Future[Result]:
        """As of every executor."""
        future: Future[Result] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            self._begun[id(future)] = time.monotonic()
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
            finally:
                del self._begun[id(future)]

        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Jobs that have not begun are dropped; threads end with the job that they are at."""
        while not self._jobs.empty():
            try:
                self._jobs.get_nowait()
            except queue.Empty:
                break
        for _ in range(self.count):
            self._jobs.put(None)

    def result_of(
        self,
        future: Future[Result],
        *,
        name: str = "",
        watch: Callable[[], None] | None = None,
    ) -> Result:
        """The result of `future`, with `check` and `watch` called while it is not there.

        Raises EnvironmentFault VIT-527 with `name`, where it is given, after STALL_SECS.
        """
        while not future.done():
            check(self._grace_secs)
            if watch is not None:
                watch()
            secs = time.monotonic() - self._begun.get(id(future), time.monotonic())
            if name and secs > STALL_SECS:
                raise no_progress(name, secs)
            with suppress(TimeoutError):
                return future.result(TICK_SECS)
        return future.result()

    def in_order(
        self, function: Callable[[int], Result], count: int, name_of: Callable[[int], str]
    ) -> list[Result]:
        """`function` of 0 .. count - 1, in order; `name_of` each, for messages."""
        futures = [self.submit(function, number) for number in range(count)]
        return [
            self.result_of(future, name=name_of(number)) for number, future in enumerate(futures)
        ]

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # its images

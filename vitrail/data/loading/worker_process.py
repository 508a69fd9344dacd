"""A process that does numbered jobs, and its end: by signal 9, which also ends one that is stopped.

It runs one thread, ignores Ctrl-C (the parent ends it), dies with its parent, and cannot take more
than ROOM_BYTES beyond what it began with: a decoder that eats memory fails at its image.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from multiprocessing import process as processes
from multiprocessing.connection import Connection
from typing import Any

from vitrail.data.loading.worker_crashes import NOWHERE, Place, TrackedSource
from vitrail.device import keep_freed_memory
from vitrail.system.child_process import safe_children

ROOM_BYTES = 2 * 2**30  # for images of the usual largest size
LAST_SECS = 2.0  # that a killed process is waited for; one in the kernel's hands may take longer
_PR_SET_PDEATHSIG = 1

Job = Callable[[int], Any]


def new_place() -> Place:
    """Where a new worker notes where it is."""
    place: Place = multiprocessing.RawArray("d", [NOWHERE, 0.0])
    return place


class Worker:
    """One process and its jobs. place: see `TrackedSource`; room: bytes that it may take."""

    def __init__(
        self,
        job: Job,
        place: Place,
        watched: TrackedSource | None,
        number: int,
        room: int = ROOM_BYTES,
    ) -> None:
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        self.pipe, theirs = context.Pipe()
        self.place, self.jobs, self._since = place, deque[int](), time.monotonic()
        with _interrupts_held(), safe_children(), warnings.catch_warnings():
            # Python 3.12 warns of fork beside threads: workers start none and use none.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process = context.Process(
                target=_work, args=(theirs, job, watched, number, room), daemon=True
            )
            self.process.start()
        theirs.close()

    def give(self, number: int, bad: dict[int, str]) -> None:
        """Another job; bad: images that are not to be read."""
        if not self.jobs:
            self._since = time.monotonic()
        self.jobs.append(number)
        with suppress(OSError):  # it is dead: its end is met elsewhere
            self.pipe.send((number, bad))

    def take(self) -> tuple[int, Any, Exception | None]:
        """The job that is done, and its result or error. Raises EOFError, OSError where the process
        has died.
        """
        number, result, error = self.pipe.recv()
        self.jobs.remove(number)
        self._since = time.monotonic()
        return number, result, error

    def idle_secs(self) -> float:
        """For how long it has made no progress at what it was given."""
        last = max(self._since, float(self.place[1]))
        return time.monotonic() - last if self.jobs else 0.0

    def kill(self) -> None:
        """End it, whatever it does; without waiting."""
        self.process.kill()
        self.pipe.close()

    def bury(self, until: float) -> int | None:
        """Wait for its end until a time; its exit code. One that does not end is forgotten, so that
        Python does not wait for it either.
        """
        self.process.join(max(0.0, until - time.monotonic()))
        if self.process.exitcode is None:
            getattr(processes, "_children", set()).discard(self.process)
        return self.process.exitcode


def _work(
    pipe: Connection, job: Job, watched: TrackedSource | None, number: int, room: int
) -> None:
    start_worker(number)
    if sys.platform == "linux":
        limit_memory(room)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            number, bad = pipe.recv()
            if watched is not None:
                watched.bad = bad
            try:
                result, error = job(number), None
            except Exception as fault:
                result, error = None, fault
            if watched is not None:
                watched.leave()
            try:
                pipe.send((number, result, error))
            except (TypeError, ValueError, AttributeError):  # an error that cannot be sent
                pipe.send((number, None, RuntimeError(repr(error))))


def start_worker(_: int) -> None:
    """What every process that decodes does first: signals, one thread, an end with its parent."""
    for name in ("SIGINT", "SIGUSR1"):  # for the parent, also where a whole group gets them
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if "torch" in sys.modules:  # looks at data do without
        sys.modules["torch"].set_num_threads(1)
    keep_freed_memory()  # decoded images come and go: saves a third of the time of decoding
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or parent == 1:  # the parent died in between
            os._exit(1)


def limit_memory(room: int) -> None:
    """Let this process take `room` bytes beyond what it has, unless less is allowed."""
    import resource  # Linux

    with open("/proc/self/statm", encoding="ascii") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + room
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if (soft == resource.RLIM_INFINITY or soft > limit) and (
        hard == resource.RLIM_INFINITY or hard >= limit
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


@contextmanager
def _interrupts_held() -> Generator[None, None, None]:
    """Hold back Ctrl-C: a worker started meanwhile never sees one before it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

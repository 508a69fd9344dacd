"""Processes that work together: started together, ended together, signals passed on to all.

Each is in a session of its own, so that Ctrl-C in a terminal reaches the parent alone and is passed
on once; and each is asked to stop when the parent dies (`stop_with_parent`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
POLL_SECS = 0.05
OWN_END_SECS = 10.0  # in which the others end by themselves once one has failed
LAST_SECS = 60.0  # in which they end after SIGTERM
_PR_SET_PDEATHSIG = 1


def run_group(command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> list[int]:
    """Run `command` once in each of the environments until all have ended; their exit codes,
    negative for a signal, in the order in which they ended.

    Where one fails the others have OWN_END_SECS to end by themselves.
    """
    processes = [
        subprocess.Popen(  # noqa: S603 - our own command
            list(command), env={**os.environ, **more}, start_new_session=True
        )
        for more in environments
    ]
    try:
        with _passing_on(processes):
            return _wait(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    left, codes = list(processes), list[int]()
    steps = iter(((OWN_END_SECS, signal.SIGTERM), (LAST_SECS, signal.SIGKILL)))
    due: tuple[float, signal.Signals] | None = None
    while left:
        codes += [one.returncode for one in left if one.poll() is not None]
        left = [one for one in left if one.returncode is None]
        if due is None and any(codes):
            due = _next(steps)
        if due is not None and time.monotonic() > due[0]:
            for process in left:
                process.send_signal(due[1])
            due = _next(steps)
        time.sleep(POLL_SECS)
    return codes


def _next(steps: Iterator[tuple[float, signal.Signals]]) -> tuple[float, signal.Signals]:
    secs, number = next(steps, (LAST_SECS, signal.SIGKILL))
    return time.monotonic() + secs, number


@contextmanager
def _passing_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Signals to this process go to all of them."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.returncode is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent() -> None:
    """Ask this process to stop when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

"""SIGINT, SIGTERM and SIGUSR1 ask a run to stop after its current step, or while it waits.

A second SIGINT stops at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vitrail.system import interrupts


class StopRequest:
    """`name` is None until a signal came, then its name."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
        interrupts.ask(self.name)


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Catch the signals inside the block; outside the main thread nothing is caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    caught = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    before = {number: signal.signal(number, request) for number in caught}
    try:
        yield request
    finally:
        interrupts.forget()
        for number, handler in before.items():
            signal.signal(number, handler)

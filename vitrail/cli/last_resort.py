"""Ctrl-C ends a command within seconds, whatever the main thread is at.

Python runs the handler of a signal between two instructions of the main thread. In the middle of
native code, or of a read from a disk that does not answer, there is none: a thread waits for the
signal too, and ends the process where the main thread has not.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

GRACE_SECS = 3.0
EXIT_CODES: Final = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 0}


def exit_code(stop: KeyboardInterrupt) -> int:
    """Of a command that was interrupted; a training run knows the signal by name."""
    return EXIT_CODES.get(getattr(stop, "name", "SIGINT"), 130)


def end_when_interrupted() -> None:
    """Watch for SIGINT from now on, in the main thread of a process that is ours."""
    if threading.current_thread() is not threading.main_thread():
        return
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ours,), name="last-resort", daemon=True).start()


def _watch(pipe: int) -> None:
    """The first SIGINT ends a command; where a run catches it for a checkpoint, the second does."""
    interrupts = 0
    while number := os.read(pipe, 1):
        if number[0] != signal.SIGINT:
            continue
        interrupts += 1
        if interrupts > 1 or signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            time.sleep(GRACE_SECS)
            os._exit(EXIT_CODES["SIGINT"])

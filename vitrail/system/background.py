"""Processes that run on while we do something else, and that can be killed without notice.

What they print goes into a file. Each is in a session of its own, so that Ctrl-C in a terminal
reaches only us: who starts them ends them, by `kill` in a `finally`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECS = 0.01


@dataclass(frozen=True)
class Background:
    """Processes that were started together. log: what they printed."""

    processes: tuple[subprocess.Popen[bytes], ...]
    log: Path

    def codes(self) -> list[int]:
        """The exit codes of those that have ended, negative for a signal."""
        found = [process.poll() for process in self.processes]
        return [code for code in found if code is not None]

    @property
    def is_running(self) -> bool:
        """Whether one of them has not ended."""
        return len(self.codes()) < len(self.processes)

    def end(self, secs: float) -> list[int]:
        """SIGTERM to all that run, after `secs` SIGKILL to those that are left; exit codes."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        wait(lambda: not self.is_running, time.monotonic() + secs)
        self.kill()
        return self.codes()

    def kill(self) -> None:
        """SIGKILL to all that run, and wait for them."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait()


def start(
    command: Sequence[str], environments: Sequence[Mapping[str, str]], folder: Path, log: Path
) -> Background:
    """Start `command` in `folder`, once in each of the environments."""
    with log.open("ab") as target:
        return Background(
            tuple(
                subprocess.Popen(  # noqa: S603 - our own command
                    list(command),
                    cwd=folder,
                    env={**os.environ, **more},
                    stdin=subprocess.DEVNULL,
                    stdout=target,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                for more in environments
            ),
            log,
        )


def wait(is_over: Callable[[], bool], until: float) -> bool:
    """Wait for `is_over`, at most until the monotonic clock says `until`; whether it came."""
    while not is_over():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECS)
    return True

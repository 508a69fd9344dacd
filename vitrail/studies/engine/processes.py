"""Who computes the jobs: some processes of this machine. A cluster: `ray_engine.py`.

Every cell is computed with a fixed number of threads, so that its row is the same whoever computes
it; more processes, not more threads, use more cores. On small models that is also faster.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vitrail import errors
from vitrail.errors import EnvironmentFault, VitrailError
from vitrail.files import writing
from vitrail.folder import open_plain
from vitrail.studies.engine.job import Job
from vitrail.system.child_process import python_command

STOP_SECS = 30.0  # for a worker to write its checkpoint
KILLED_SECS = 2.0


@dataclass(frozen=True)
class Event:
    """What happened to a job. kind: "progress" (share), "done" (row; None: stopped by a signal) or
    "failed" (error).
    """

    kind: str
    key: str
    share: float = 0.0
    row: dict[str, Any] | None = None
    error: VitrailError | None = None


class Engine(Protocol):
    """Does jobs, some at a time."""

    @property
    def free(self) -> int:
        """How many more jobs can be started now."""

    def start(self, job: Job) -> None:
        """Begin a job; only while `free`."""

    def events(self, max_secs: float) -> Iterator[Event]:
        """What has happened since, after waiting at most so long for the first."""

    def close(self) -> None:
        """Stop what is running, after its checkpoint, and let go of everything."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    job: Job | None = None
    rest: bytes = b""

    def close_pipes(self) -> None:
        """Of a process that has ended."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):  # a job that it never read
                stream.close()


class LocalEngine:
    """`processes` workers on this machine; what they and their libraries print goes to `log`."""

    def __init__(self, processes: int, log: Path) -> None:
        self._selector = selectors.DefaultSelector()
        with writing(log):
            handle = open_plain(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._log = os.fdopen(handle, "ab")
        self._processes = processes
        self._workers: list[_Worker] = []

    @property
    def free(self) -> int:
        """Workers without a job, those not yet started included."""
        return self._processes - sum(worker.job is not None for worker in self._workers)

    def start(self, job: Job) -> None:
        """Give `job` to a worker that has none, or to a new one."""
        worker = next((one for one in self._workers if one.job is None), None) or self._hire()
        worker.job = job
        assert worker.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead: `events` will say so
            worker.process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
            worker.process.stdin.flush()

    def _hire(self) -> _Worker:
        process = subprocess.Popen(  # noqa: S603  # our own module
            python_command("vitrail.studies.engine.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for us; `close` passes it on
        )
        worker = _Worker(process)
        self._workers.append(worker)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def events(self, max_secs: float) -> Iterator[Event]:
        """Lines of the workers, as events."""
        for key, _ in self._selector.select(max_secs):
            worker: _Worker = key.data
            data = os.read(key.fd, 1 << 16)
            if not data:
                yield from self._dead(worker)
                continue
            *lines, worker.rest = (worker.rest + data).split(b"\n")
            for line in lines:
                yield from _event(worker, json.loads(line))

    def _dead(self, worker: _Worker) -> Iterator[Event]:
        """A worker whose output has ended. Its job failed with VIT-510."""
        assert worker.process.stdout is not None
        self._selector.unregister(worker.process.stdout)
        self._workers.remove(worker)
        code = _code_of(worker.process)
        worker.close_pipes()
        if worker.job is None:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        error = EnvironmentFault(
            "VIT-510",
            f"the process that computed {worker.job.arm}, seed {worker.job.seed} ended by {how}; "
            f"what it said is in {self._log.name}.",
            hint="Killed for memory? Use fewer --processes. Repeat the command to continue.",
        )
        yield Event("failed", worker.job.key, error=error)

    def close(self) -> None:
        """Ask running jobs to write a checkpoint, wait for it, end the workers."""
        for worker in self._workers:
            if worker.job is not None:
                worker.process.send_signal(signal.SIGTERM)
            elif worker.process.stdin is not None:
                with suppress(OSError):
                    worker.process.stdin.close()
        deadline = time.monotonic() + STOP_SECS
        while any(worker.job for worker in self._workers):
            if (left := deadline - time.monotonic()) <= 0:
                break
            list(self.events(left))
        for worker in self._workers:
            worker.process.kill()
            _code_of(worker.process)
            worker.close_pipes()
        self._selector.close()
        self._log.close()


def _code_of(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that has closed its output or was killed; killed, where it does
    not end. One that the kernel does not let go of is not waited for.
    """
    for secs in (STOP_SECS, KILLED_SECS):
        with suppress(subprocess.TimeoutExpired):
            return process.wait(secs)
        process.kill()
    return -signal.SIGKILL


def _event(worker: _Worker, record: dict[str, Any]) -> Iterator[Event]:
    if record["kind"] == "ready":
        return
    if record["kind"] == "progress":
        yield Event("progress", record["key"], share=record["share"])
        return
    worker.job = None
    if record["kind"] == "failed":
        yield Event("failed", record["key"], error=revived(record["error"]))
    else:
        yield Event("done", record["key"], row=record["row"])


def revived(record: dict[str, Any]) -> VitrailError:
    """The error that `worker.described` wrote."""
    kind: type[VitrailError] = getattr(errors, record["type"])
    return kind(record["code"], record["message"], hint=record["hint"])

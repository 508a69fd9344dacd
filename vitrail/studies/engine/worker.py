"""A process that does jobs: a line of JSON in, lines of JSON out.

    python -m vitrail.studies.engine.worker

It ends when its input does, also in the middle of a run: so no worker outlives a study that was
killed. What libraries print goes to stderr. A signal makes the run write its checkpoint first.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from typing import Any, TextIO

from vitrail.errors import VitrailError, environment_fault

SAY_SECS = 0.5  # between two words on the progress of a run


def main() -> None:
    """Do jobs until there are no more."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(_own_input(), jobs), daemon=True).start()
    from vitrail.studies.engine.job import Job, run_job

    _answer(out, {"kind": "ready"})
    while True:
        job = Job.from_json(json.loads(jobs.get()))
        try:
            row = run_job(job, _Teller(out, job.key))
            _answer(out, {"kind": "done", "key": job.key, "row": row})
        except KeyboardInterrupt:
            _answer(out, {"kind": "done", "key": job.key, "row": None})
        except Exception as error:
            _answer(out, {"kind": "failed", "key": job.key, "error": described(error)})


def described(error: Exception) -> dict[str, Any]:
    """An error as plain data: class, code, message and hint; of a fault of ours also where."""
    known = error if isinstance(error, VitrailError) else environment_fault(error)
    if known is not None:
        names = ("code", "message", "hint")
        return {"type": type(known).__name__} | {name: getattr(known, name) for name in names}
    text = "".join(traceback.format_exception(error))
    return {"type": "VitrailError", "code": "VIT-100", "message": repr(error), "hint": text}


class _Teller:
    """Passes on how far a run is, not too often."""

    def __init__(self, out: TextIO, key: str) -> None:
        self._out, self._key, self._at = out, key, 0.0

    def __call__(self, share: float) -> None:
        if time.monotonic() - self._at >= SAY_SECS:
            self._at = time.monotonic()
            _answer(self._out, {"kind": "progress", "key": self._key, "share": round(share, 4)})


def _own_input() -> TextIO:
    """Standard input for the thread that waits on it alone: a process that is forked meanwhile
    closes its sys.stdin, and would wait for ever for the lock that the thread holds.
    """
    lines = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    with open(os.devnull, encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    return lines


def _listen(lines: TextIO, jobs: queue.Queue[str]) -> None:
    for line in lines:
        jobs.put(line)
    os._exit(0)  # whoever asked has gone


def _answer(out: TextIO, record: dict[str, Any]) -> None:
    out.write(json.dumps(record) + "\n")
    out.flush()


if __name__ == "__main__":
    main()

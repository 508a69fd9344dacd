"""Starts `pickle_sandbox.py`: no pickle is ever read in the process that wants to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from vitrail.errors import EnvironmentFault

CHILD = Path(__file__).with_name("pickle_sandbox.py")
MAX_BYTES = 512 * 2**20  # of an answer
WALL_SECS = 60  # on a busy machine; the processor time is limited to 2 s


class PickleRefused(ValueError):
    """Why a pickle is not read, in words for the user."""


def ask(name: str, *words: str, source: int | bytes) -> tuple[dict[str, Any], memoryview]:
    """What the process says of a pickle, and the bytes behind it. words: see there; source: the
    bytes, or the descriptor of a file, which is read from its begin; name: for the message.

    Raises PickleRefused, EnvironmentFault VIT-529 where no process can be started.
    """
    given: dict[str, Any] = {"input": source}
    if isinstance(source, int):
        os.lseek(source, 0, os.SEEK_SET)
        given = {"stdin": source}
    kept = {key: os.environ[key] for key in ("SYSTEMROOT",) if key in os.environ}  # Windows
    command = [sys.executable, "-I", "-S", str(CHILD), *words]
    limits: dict[str, Any] = {"timeout": WALL_SECS, "env": kept, "cwd": os.sep}
    try:
        done = subprocess.run(command, capture_output=True, check=False, **limits, **given)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise PickleRefused("reading it takes too long") from error
    except OSError as error:
        raise EnvironmentFault(
            "VIT-529",
            f"{name} needs a process of its own to be read, which cannot be started: {error}",
            hint="Read it on another machine, or give it in another format.",
        ) from error
    if done.returncode != 0 or len(done.stdout) > MAX_BYTES:
        raise PickleRefused(f"reading it was stopped (code {done.returncode})")
    end = done.stdout.index(b"\n")
    answer: dict[str, Any] = json.loads(done.stdout[:end])
    if "refused" in answer:
        raise PickleRefused(str(answer["refused"]))
    return answer, memoryview(done.stdout)[end + 1 :]

"""Processes of Python that Vitrail starts, so that nothing of the working directory is imported.

`python -m` and `python -c` put the working directory first on the path of modules: in a folder
that somebody else made, its `vitrail/` or `json.py` would run. `-P` (Python 3.11) and the variable
PYTHONSAFEPATH leave it out. Every place that starts a process stands in a table of
tests/test_processes.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SAFE_PATH = "PYTHONSAFEPATH"


def python_command(module: str) -> list[str]:
    """The words that run a module of ours as a process."""
    return [sys.executable, "-P", "-m", module]


@contextmanager
def safe_children() -> Iterator[None]:
    """Processes that other libraries start inside the block leave the working directory out."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def forget_working_directory() -> None:
    """Take the working directory off the path of modules, where `python -m` put it."""
    with suppress(FileNotFoundError):  # it was removed: nothing is imported from it
        if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
            del sys.path[0]

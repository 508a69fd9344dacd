"""kill -9 at random moments: no checkpoint is lost, and the end is the same to the bit (R1).

A process that has imported torch but not computed with it forks a child per attempt; the child
trains or resumes and is killed after a random time, again and again until one attempt is left in
peace.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.training.running import TINY, records, weights
from vitrail.runs.stored import list_steps
from vitrail.training import loop

SETTINGS = {**TINY, "steps": 29}


def attempt(folder: Path, name: str) -> int:
    """Fork a process that trains, or continues where there is something to continue; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        run = folder / name
        if not (run / "run.json").is_file():
            loop.train([("test", SETTINGS)], runs_dir=folder, name=name, with_report=False)
        else:
            loop.resume(run, with_report=False)
        code = 0
    finally:
        os._exit(code)


def finished(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def kill_until_done(folder: Path, name: str, kills: int, seed: int) -> int:
    """Kill `kills` attempts at random moments, then let one end; how many hit a living process."""
    generator, hits = random.Random(seed), 0
    while hits < kills:
        pid = attempt(folder, name)
        time.sleep(generator.uniform(0.05, 1.5))
        if finished(pid):
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        hits += 1
        run = folder / name
        if run.is_dir() and not (run / "run.json").is_file():
            for path in sorted(run.rglob("*"), reverse=True):
                path.unlink()
            run.rmdir()  # killed before the run had begun: nothing to continue
    else:
        pid = attempt(folder, name)
        assert os.waitpid(pid, 0)[1] == 0
    return hits


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.promise("R1")
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    pid = attempt(tmp_path, "straight")
    assert os.waitpid(pid, 0)[1] == 0
    hits, trial = 0, 0
    while hits < 20:
        name = f"killed-{trial}"
        newest = 0
        hits += kill_until_done(tmp_path, name, kills=10, seed=trial)
        newest = max(list_steps(tmp_path / name))
        assert newest == SETTINGS["steps"]
        assert records(tmp_path / name) == records(tmp_path / "straight")
        assert weights(tmp_path / name) == weights(tmp_path / "straight")
        trial += 1

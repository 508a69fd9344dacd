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
from typing import Any

import pytest

from tests.training.running import TINY, records, weights
from vitrail.runs.stored import list_steps
from vitrail.training import loop

RESNET: dict[str, Any] = {
    "model": "resnet_ti",
    "model.stem_width": 5,
    "model.widths": "6,8",
    "ema": 0.9,
    "optim.name": "muon",
}
STEPS = 29
SETTINGS: dict[str, dict[str, Any]] = {
    "vit": {**TINY, "steps": STEPS},
    "resnet": {key: value for key, value in TINY.items() if not key.startswith("model.")}
    | RESNET
    | {"steps": STEPS},
}


def attempt(folder: Path, name: str, settings: dict[str, Any]) -> int:
    """Fork a process that trains, or continues where there is something to continue; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        run = folder / name
        if not (run / "run.json").is_file():
            loop.train([("test", settings)], runs_dir=folder, name=name, with_report=False)
        else:
            loop.resume(run, with_report=False)
        code = 0
    finally:
        os._exit(code)


def finished(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def kill_until_done(
    folder: Path, name: str, settings: dict[str, Any], kills: int, seed: int
) -> int:
    """Kill `kills` attempts at random moments, then let one end; how many hit a living process."""
    generator, hits = random.Random(seed), 0
    while hits < kills:
        pid = attempt(folder, name, settings)
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
        pid = attempt(folder, name, settings)
        assert os.waitpid(pid, 0)[1] == 0
    return hits


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.promise("R1")
@pytest.mark.parametrize("model", SETTINGS)
def test_twenty_kills_change_nothing(model: str, tmp_path: Path) -> None:
    """Of a ResNet, whose running values and averages are part of the state, as of a ViT."""
    settings = SETTINGS[model]
    pid = attempt(tmp_path, "straight", settings)
    assert os.waitpid(pid, 0)[1] == 0
    hits, trial = 0, 0
    while hits < 20:
        name = f"killed-{trial}"
        newest = 0
        hits += kill_until_done(tmp_path, name, settings, kills=10, seed=trial)
        newest = max(list_steps(tmp_path / name))
        assert newest == STEPS
        assert records(tmp_path / name) == records(tmp_path / "straight")
        assert weights(tmp_path / name) == weights(tmp_path / "straight")
        trial += 1

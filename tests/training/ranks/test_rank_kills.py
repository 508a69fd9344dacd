"""kill -9 of processes that train together: at random moments, and at a call inside a save (R1).

Each attempt forks its processes from one that has imported torch but not computed with it, kills
one of them or all, and leaves the rest to end by themselves; the next attempt goes on with what is
on the disk, alone or with two. VITRAIL_TEST_KILLS=10 does ten times as many (200 and 100).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.running import TINY, records, weights
from vitrail.runs.filesystem import FILES, LocalFiles
from vitrail.training import loop
from vitrail.training.ranks.launch import STORE
from vitrail.training.ranks.ranks import Ranks, joined
from vitrail.training.storage.checkpoint import load_latest

TIMES = int(os.environ.get("VITRAIL_TEST_KILLS", "1"))
SECS = 60.0  # that a process may take to see that another one is gone
LAST_CALL = 45  # of the calls to the disk by which one process saves about twice
SETTINGS: dict[str, Any] = {
    **TINY,
    "batch_size": 32,
    "optim.accumulate": 2,
    "exact": True,
    "ema": 0.9,
    "residual_baseline": False,
}


def started(folder: Path, world: int, aimed: tuple[int, int] = (-1, 0)) -> list[int]:
    """Pids of `world` processes that train the run or go on with it. aimed: which of them kills
    itself, at which call to the disk by a save.
    """
    store, pids = folder / f"store-{os.urandom(4).hex()}", []
    for rank in range(world):
        pid = os.fork()
        if not pid:
            _train(folder, Ranks(rank, world, rank, world), store, aimed)
        pids.append(pid)
    return pids


def _train(folder: Path, ranks: Ranks, store: Path, aimed: tuple[int, int]) -> None:
    """Train, and leave the process."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        os.environ |= {STORE: str(store), "GLOO_SOCKET_IFNAME": "lo"}
        if aimed[0] == ranks.rank:
            die_at(aimed[1])
        options: dict[str, Any] = {"with_report": False, "ranks": ranks}
        with joined(ranks):
            if (folder / "run/run.json").is_file():
                loop.resume(folder / "run", **options)
            else:
                loop.train([("test", SETTINGS)], runs_dir=folder, name="run", **options)
        code = 0
    finally:
        os._exit(code)


def die_at(number: int) -> None:
    """Let the process kill itself at the n-th call to the disk by a thread that saves."""
    calls = 0

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(FILES, name)

        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += threading.current_thread().name == "save"
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments)

        return call

    for name in [one for one in vars(LocalFiles) if not one.startswith("_")]:
        setattr(FILES, name, counted(name))


def ended(pids: list[int]) -> list[int]:
    """How the processes ended: exit codes, or minus a signal's number."""
    codes: dict[int, int] = {}
    until = time.monotonic() + SECS
    while len(codes) < len(pids):
        for pid in set(pids) - codes.keys():
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            for pid in set(pids) - codes.keys():
                os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"a process did not see that another one is gone: {codes}")
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def check(run: Path) -> None:
    """Nothing is lost: what is on the disk is whole, and a run that had not begun goes."""
    if run.is_dir() and not (run / "run.json").is_file():
        shutil.rmtree(run)
    if run.is_dir():
        newest = load_latest(run)
        assert newest is None or newest.damaged == (), newest


def kill_at_random(folder: Path, chance: random.Random) -> bool:
    """Kill one of two processes, or both, after a random time; whether it hit one that lived."""
    pids = started(folder, 2)
    time.sleep(chance.uniform(0.1, 4.0))
    for pid in chance.choice((pids[:1], pids[1:], pids)):
        os.kill(pid, signal.SIGKILL)
    codes = ended(pids)
    check(folder / "run")
    return -signal.SIGKILL in codes and 0 not in codes


def kill_in_a_save(folder: Path, chance: random.Random) -> bool:
    """Let one of two processes die inside a save; whether it came so far."""
    codes = ended(started(folder, 2, (chance.randrange(2), chance.randint(1, LAST_CALL))))
    check(folder / "run")
    return -signal.SIGKILL in codes


def finished(run: Path) -> bool:
    return run.is_dir() and '"finished"' in (run / "run.json").read_text()


@pytest.mark.timeout(6000)
@pytest.mark.promise("R1")
@pytest.mark.parametrize(
    ("at_random", "in_saves"),
    [(0, 2), pytest.param(20 * TIMES, 10 * TIMES, marks=pytest.mark.slow)],
)
def test_kills_of_two_processes_change_nothing(
    at_random: int, in_saves: int, tmp_path: Path
) -> None:
    straight = tmp_path / "straight"
    straight.mkdir()
    assert ended(started(straight, 1)) == [0]
    chance, number = random.Random(at_random), 0
    wanted = {kill_at_random: at_random, kill_in_a_save: in_saves}
    while any(wanted.values()):
        folder, number = tmp_path / str(number), number + 1
        folder.mkdir()
        for _ in range(6):  # kills of one run, if it does not come to its end before
            kind = chance.choice([one for one in wanted for _ in range(wanted[one])])
            wanted[kind] -= kind(folder, chance)
            if not any(wanted.values()) or finished(folder / "run"):
                break
        if not finished(folder / "run"):
            assert set(ended(started(folder, chance.choice((1, 2))))) == {0}
        assert load_latest(folder / "run").step == SETTINGS["steps"]  # type: ignore[union-attr]
        assert records(folder / "run") == records(straight / "run")
        assert weights(folder / "run") == weights(straight / "run")
        shutil.rmtree(folder)

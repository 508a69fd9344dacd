"""`vitrail study` as a process: told to stop, or killed, it loses nothing and leaves nobody behind.

The results that follow from the rows are not looked at here: the command may end without them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.studies.small_study import lasting
from vitrail.runs.stored import list_steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
# 6 cells of some seconds: two sizes, three families, one seed.
WORDS = (
    "study data-size --data builtin:digits --seeds 1 --sizes 100,1000 --processes 2 --examples 6400"
)
DEADLINE_SECS = 300


def command(folder: Path) -> subprocess.Popen[str]:
    """`vitrail study` without the figures, tables and page that follow."""
    code = (
        "import sys; from vitrail.studies import run; run.write_results = lambda *_: None\n"
        "from vitrail.cli.main import main; sys.exit(main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *WORDS.split(), "--out", str(folder), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of rows.jsonl."""
    path = folder / "data-size" / "rows.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def running(folder: Path) -> dict[Path, int]:
    """Run directories in which cells are computed or were stopped -> newest checkpoint."""
    kept = {row["key"] for row in rows(folder)}
    runs = (folder / "data-size" / "runs").glob("*/run.json")
    return {
        path.parent: max(list_steps(path.parent), default=0)
        for path in runs
        if path.parent.name not in kept
    }


def wait_until_busy(process: subprocess.Popen[str], folder: Path, finished: int) -> None:
    """Until so many cells are finished and two more have seen five steps."""
    deadline = time.monotonic() + DEADLINE_SECS
    while time.monotonic() < deadline and process.poll() is None:
        busy = [run for run in running(folder) if last_step(run) >= 5]
        if len(rows(folder)) >= finished and len(busy) >= 2:
            return
        time.sleep(0.05)
    raise AssertionError(f"{process.poll()}: {len(rows(folder))} rows")


def last_step(run: Path) -> int:
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


def gone(processes: list[psutil.Process], max_secs: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=max_secs)
    return not alive


def finish(folder: Path) -> tuple[dict[str, Any], str]:
    """The same command until its end."""
    process = command(folder)
    out, err = process.communicate(timeout=DEADLINE_SECS * 2)
    assert process.returncode == 0, err
    document: dict[str, Any] = json.loads(out)
    return document, err


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Rows of a study that nobody disturbed, by key."""
    folder = tmp_path_factory.mktemp("straight")
    document, err = finish(folder)
    assert (document["cells"], document["finished"], document["left_out"]) == (6, 6, 0)
    assert "(new)" in err
    return by_key(folder)


def by_key(folder: Path) -> list[dict[str, Any]]:
    return sorted((lasting(row) for row in rows(folder)), key=lambda row: str(row["key"]))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_told_to_stop(
    tmp_path: Path, straight: list[dict[str, Any]], number: signal.Signals, code: int
) -> None:
    process = command(tmp_path)
    wait_until_busy(process, tmp_path, finished=2)
    workers = workers_of(process)
    assert len(workers) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert gone(workers, 1.0)
    document = json.loads(out)
    assert document["stopped"] == number.name
    assert document["finished"] == len(rows(tmp_path)) >= 2
    for run, newest in running(tmp_path).items():
        status = json.loads((run / "run.json").read_text())["status"]
        assert (status, newest > 0) in {("stopped", True), ("finished", True)}
    before = rows(tmp_path)
    document, err = finish(tmp_path)
    assert "(continued)" in err
    assert rows(tmp_path)[: len(before)] == before
    assert by_key(tmp_path) == straight


def killed(folder: Path, process: subprocess.Popen[str]) -> None:
    """kill -9 of the command; its workers follow by themselves."""
    workers = workers_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert gone(workers, 10.0)


def test_killed_half_way(tmp_path: Path, straight: list[dict[str, Any]]) -> None:
    process = command(tmp_path)
    wait_until_busy(process, tmp_path, finished=2)
    killed(tmp_path, process)
    before = rows(tmp_path)
    assert len(before) >= 2
    document, err = finish(tmp_path)
    assert "(continued)" in err
    assert rows(tmp_path)[: len(before)] == before  # nothing finished is computed again
    assert len(rows(tmp_path)) == document["finished"] == 6
    assert by_key(tmp_path) == straight


def test_kills_at_random_moments(tmp_path: Path, straight: list[dict[str, Any]]) -> None:
    generator, kept = random.Random(5), 0
    for _ in range(5):
        process = command(tmp_path)
        time.sleep(generator.uniform(0.5, 25))
        if process.poll() is not None:
            break
        killed(tmp_path, process)
        assert len(rows(tmp_path)) >= kept
        kept = len(rows(tmp_path))
    finish(tmp_path)
    assert by_key(tmp_path) == straight
    assert [path.name for path in tmp_path.iterdir()] == ["data-size"]

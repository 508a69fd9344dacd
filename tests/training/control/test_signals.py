"""Signals to real processes, with workers that are stopped (R8, D9)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

SECS = 10.0  # from the signal to the end, on a core of one's own; half a second is usual
SETTINGS = (
    "--model vit_ti4 --model.width 16 --model.depth 1 --model.num_heads 1 --model.mlp_dim 16 "
    "--image-size 8 --precision float32 --batch-size 4 --workers 2 --eval-every-epochs 100000 "
    "--steps 1000000 -q --name r"
).split()


def allowed() -> float:
    """SECS, and more where other processes wait for the cores too."""
    return SECS * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of 12 images."""
    rng = np.random.default_rng(0)
    for name, level in (("a", 40), ("b", 200)):
        (tmp_path / "d" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(level, level + 50, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "d" / name / f"{number}.png")
    return tmp_path / "d"


@pytest.fixture
def started(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that trains, its two workers stopped."""
    command = [sys.executable, "-m", "vitrail", "train", str(data), *SETTINGS]
    place = data.parent
    with (place / "err").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"VITRAIL_THREADS": "1"},
        )
    metrics = place / "runs" / "r" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < until:
        assert process.poll() is None, (place / "err").read_text()
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    yield process
    process.kill()
    process.wait()
    for worker in workers:
        if worker.is_running():
            worker.kill()


@pytest.mark.promise("R8", "D9")
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 0, marks=pytest.mark.slow),
    ],
)
def test_a_run_with_stopped_workers_ends_with_a_checkpoint(
    started: subprocess.Popen[bytes], data: Path, number: int, code: int
) -> None:
    workers = psutil.Process(started.pid).children()
    started.send_signal(number)
    assert started.wait(allowed()) == code
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    run = data.parent / "runs" / "r"
    steps = sorted((run / "checkpoints").glob("step-*"))
    assert steps
    assert '"status": "stopped"' in (run / "run.json").read_text()
    if number != signal.SIGTERM:
        return
    resumed = subprocess.Popen(
        [sys.executable, "-m", "vitrail", "train", "--resume", str(run), "-q"], cwd=data.parent
    )
    before = (run / "metrics.jsonl").stat().st_size
    try:
        until = time.monotonic() + 120
        while (run / "metrics.jsonl").stat().st_size <= before and time.monotonic() < until:
            assert resumed.poll() is None
            time.sleep(0.05)
        resumed.send_signal(signal.SIGTERM)
        assert resumed.wait(allowed()) == 143
    finally:
        resumed.kill()
    assert sorted((run / "checkpoints").glob("step-*"))[-1] > steps[-1]


@pytest.mark.promise("R8", "D9")
@pytest.mark.parametrize("caught", [False, True])
def test_ctrl_c_ends_a_command_in_the_middle_of_native_code(caught: bool) -> None:
    """The second one, where a run takes the first for a wish to stop after its step."""
    code = textwrap.dedent(f"""
        import hashlib, signal
        # A shell starts what it leaves in the background with Ctrl-C ignored, children too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from vitrail.cli import last_resort
        from vitrail.training.control.signals import stop_signals
        last_resort.GRACE_SECS = 0.5
        last_resort.end_when_interrupted()
        def busy():
            print("busy", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
        if {caught}:
            with stop_signals():
                busy()
        busy()
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"busy\n"
            for _ in range(1 + caught):
                time.sleep(0.3)
                assert process.poll() is None
                process.send_signal(signal.SIGINT)
            assert process.wait(allowed()) == 130
        finally:
            process.kill()

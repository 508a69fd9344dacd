"""A long run holds on to nothing: memory, open files, threads and processes (R14)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.data.odd_images import noise

EPOCHS = 100
STEPS = EPOCHS * 84 // 16  # of 120 images, 84 are trained on, 16 at a time
PROGRAM = """
from vitrail.cli.main import main
import sys
sys.exit(main(sys.argv[1:]))
"""
SETTINGS = (
    "--model vit_ti4 --model.width 32 --model.depth 2 --model.num_heads 2 --model.mlp_dim 64 "
    "--precision float32 --batch-size 16 --device cpu --threads 1 --save-every-steps 50"
).split()


def sampled(process: subprocess.Popen[bytes], run: Path) -> list[tuple[int, int, int, int, int]]:
    """(bytes of memory, open files, threads, processes, step) of a process and its children, often,
    while it trains: not while it starts, and not while it judges and reports.
    """
    root, found = psutil.Process(process.pid), []
    while process.poll() is None:
        step = last_step(run / "metrics.jsonl")
        try:
            family = [root, *root.children(recursive=True)]
            now = (
                sum(one.memory_full_info().uss for one in family),
                sum(one.num_fds() for one in family),
                sum(one.num_threads() for one in family),
                len(family),
                step,
            )
        except psutil.Error:  # one of them ended while it was looked at
            continue
        if 0 < step < STEPS:
            found.append(now)
        time.sleep(0.05)
    return found


def last_step(log: Path) -> int:
    """The step of the last whole record; 0 before the first."""
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.promise("R14")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_hundred_epochs_hold_on_to_nothing(tmp_path: Path, workers: int) -> None:
    """Files, an evaluation and a log line an epoch: from the second quarter of the steps to the
    last, less than 1 MB a thousand steps of growth, and no more files, threads or processes.
    """
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(60):
            Image.fromarray(noise(23, 17, seed=index)).save(
                tmp_path / "photos" / label / f"{index}.png"
            )
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "train",
        "photos",
        *SETTINGS,
        "--epochs",
        str(EPOCHS),
        "--workers",
        str(workers),
        "-q",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    found = np.array(sampled(process, tmp_path / "runs" / "photos-1"), dtype=float)
    assert process.wait() == 0
    quarter = found[:, 4] // (STEPS / 4)
    before, after = found[quarter == 1], found[quarter == 3]
    assert min(len(before), len(after)) > 5, "too short to say anything"
    grown = np.median(after[:, 0]) - np.median(before[:, 0])
    assert grown <= 1e6 * max(1.0, STEPS / 2000), f"{grown / 1e6:.1f} MB in {STEPS // 2} steps"
    for column in (1, 2, 3):
        assert np.median(after[:, column]) <= np.median(before[:, column])

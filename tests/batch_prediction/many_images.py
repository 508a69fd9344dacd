"""A small model in a folder, images in another, and the command that classifies them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.export.exported import classifier_of


def save_model(folder: Path) -> Path:
    """A model of ten classes."""
    classifier_of().save(folder)
    return folder


def save_many(folder: Path, count: int, *, bad: int = 0) -> Path:
    """`count` PNG files that differ, the first `bad` of them cut short."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number:05d}.png"
        Image.fromarray(rng.integers(0, 256, (16, 12, 3), np.uint8)).save(place)
        if number < bad:
            place.write_bytes(place.read_bytes()[:40])
    return folder


def command(*words: object) -> list[str]:
    """The words of a process that predicts."""
    return [sys.executable, "-P", "-m", "vitrail", "predict", *map(str, words)]


def start(place: Path, *words: object) -> subprocess.Popen[bytes]:
    """The command in a process of its own, in the folder `place`."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(*words),
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def parts_there(out: Path) -> list[str]:
    """The files of whole parts that lie beside the table `out`."""
    folder = out.with_name(f"{out.name}.parts")
    return sorted(one.name for one in folder.glob("part-*.jsonl"))

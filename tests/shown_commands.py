"""The commands that a page of the documentation shows, run on small images with a small model."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from tests.serve.running import WAIT_SECS, asked, command

TINY = "--model vit_ti8 --model.width 24 --model.depth 2 --model.num_heads 2 --model.mlp_dim 48"
SMALL = [*TINY.split(), "--image-size", "16", "--batch-size", "8", "--threads", "1"]


def commands(page: str) -> list[str]:
    """Every command a page shows: a line of a block, or between backticks with an argument."""
    prose = re.sub(r"^\|.*$", "", page, flags=re.MULTILINE)  # tables
    blocks = re.findall(r"^    (vitrail [^#\n]+)", prose, re.MULTILINE)
    return [text.strip() for text in blocks + re.findall(r"`(vitrail [^\s`]+ [^`]+)`", prose)]


def photos(folder: Path) -> None:
    """Two classes of images, 20 px wide and 17 high, a dark and a bright one."""
    noise = np.random.default_rng(0)
    for name, level in (("cat", 40), ("dog", 180)):
        (folder / name).mkdir(parents=True)
        for number in range(70):
            pixels = noise.integers(level, level + 60, (17, 20, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")


def small(command: str) -> list[str]:
    """The words of a command; a training is made short, its other options stay."""
    words = shlex.split(command)[1:]
    if words[0] == "compare":
        return [
            *words,
            "--models",
            "vit_digits",
            "--image-size",
            "8",
            "--examples",
            "64",
            "--seeds",
            "1",
            "--processes",
            "1",
        ]
    if words[0] != "train":
        return words
    if "--from" in words:  # the architecture is that of the model
        return [*words, "--batch-size", "8", "--threads", "1", "--steps", "4"]
    if "--time-limit" in words:
        return [*words[:-1], "2s", *SMALL]
    return [*words, *SMALL, "--steps", "4"]


def serve(model: Path, folder: Path, classes: Collection[str] = ("cat", "dog")) -> None:
    """An answer over HTTP, and the end by a signal."""
    with command(model, cwd=folder) as (process, port):
        status, body = asked(port, "POST", "/v1/classify", (folder / "new.jpg").read_bytes())
        assert status == 200, body
        assert json.loads(body)[0]["label"] in classes
        process.terminate()
        assert process.wait(WAIT_SECS) == 0

"""Seconds until a command answers, as multiples of `import torch`.

    python -m benchmarks.start_up [--rounds 5]

The commands take turns, each in a fresh process with warm files. `vitrail predict` classifies one
image with a ViT-Ti/16 of random weights: from the shell's prompt to the printed answer.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.timing import write_result

BASELINE = "import torch"


def commands_in(folder: Path) -> dict[str, list[str]]:
    """What is timed; writes a model and an image into `folder`."""
    from vitrail.classifier import Classifier
    from vitrail.data.images.preprocess import Preprocess
    from vitrail.models.create import create_model

    preprocess = Preprocess(height=224, width=224, resize=256, crop="center")
    classes = [f"class {number}" for number in range(10)]
    Classifier(create_model("vit_ti16", num_classes=10), preprocess, classes).save(folder / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.jpg")
    python, vitrail = [sys.executable, "-c"], [sys.executable, "-m", "vitrail"]
    commands = {
        BASELINE: [*python, "import torch"],
        "python alone": [*python, "pass"],
        "vitrail --help": [*vitrail, "--help"],
        "vitrail predict": [
            *vitrail,
            "predict",
            str(folder / "model"),
            str(folder / "picture.jpg"),
        ],
    }
    if importlib.util.find_spec("transformers"):
        theirs = "from transformers import ViTForImageClassification"
        commands[theirs] = [*python, theirs]
    return commands


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each command and the median of its ratios to `import torch`."""
    with tempfile.TemporaryDirectory() as folder:
        commands = commands_in(Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if number:  # the first round warms the files
                    seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "seconds": round(statistics.median(times), 3),
            "ratio": round(
                statistics.median(
                    ours / torch for ours, torch in zip(times, seconds[BASELINE], strict=True)
                ),
                3,
            ),
        }
        for name, times in seconds.items()
    }


def main() -> None:
    """Run, print, and write results/start_up.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows = measure(rounds)
    print(f"start-up: median of {rounds} rounds; ratio to `import torch`")
    for name, row in rows.items():
        print(f"  {name:52}{row['seconds']:7.2f} s   {row['ratio']:.2f}")
    write_result("start_up", {"rounds": rounds, "commands": rows})


if __name__ == "__main__":
    main()

"""The attention map of one layer against plain prediction: time and peak memory, batch 1.

    python -m benchmarks.explain [--threads 2] [--rounds 9] [--model vit_b16] [--image-size 384]

Goal: at most 1.5 times the time and 1.15 times the peak memory of the process. Times as in
`timing.py`, contenders taking turns. Memory: the largest resident size of a process of its own
(Linux: VmHWM, set back after the model is made and has run once), and what of it is above the
process with the model before any image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks.timing import compete, serve, write_result
from vitrail.explain.methods.maps import Request
from vitrail.explain.methods.registry import explain
from vitrail.models.create import create_model
from vitrail.models.vit.model import ViT

CONTENDERS = ["predict", "attention", "rollout", "relevance"]
TURNS = 3  # images a turn


def step_of(case: str, name: str) -> Callable[[], None]:
    """What contender `name` does with one image. case: "vit_b16:384"."""
    model_name, size = case.split(":")
    model = create_model(model_name, image_size=int(size), num_classes=1000).eval()
    assert isinstance(model, ViT)
    images = torch.randn(1, 3, int(size), int(size))
    request = Request(name, layer=model.config.depth // 2 if name == "attention" else None)

    def predict() -> None:
        with torch.inference_mode():
            model(images).softmax(dim=1)

    def show() -> None:
        explain(model, images, request)

    return predict if name == "predict" else show


def memory(case: str, name: str) -> dict[str, float]:
    """MB: resident with the model, and at most while images are computed."""
    step = step_of(case, name)
    before = status_mb("VmRSS")
    step()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM begins again
    for _ in range(TURNS):
        step()
    return {"model_mb": before, "peak_mb": status_mb("VmHWM")}


def status_mb(key: str) -> float:
    """A figure of /proc/self/status."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) / 1024


def measured_memory(case: str, threads: int) -> dict[str, dict[str, float]]:
    """Of every contender, each in a fresh process."""
    found = {}
    for name in CONTENDERS:
        command = [sys.executable, "-m", "benchmarks.explain", "--case", case, "--memory", name]
        done = subprocess.run(
            [*command, "--threads", str(threads)],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[name] = json.loads(done.stdout)
    return found


def measure(case: str, threads: int, rounds: int) -> None:
    """Run, print, and write results/explain.json."""
    sizes = measured_memory(case, threads)
    turns, _ = compete("benchmarks.explain", case, CONTENDERS, threads=threads, rounds=rounds)
    rows = {}
    print(f"{case}, batch 1, {threads} threads; x: against plain prediction")
    print(f"  {'':12}{'ms':>8}{'x time':>22}{'peak MB':>10}{'x':>7}{'above the model, MB':>22}")
    for name in CONTENDERS:
        walls = sorted(one["wall"] / TURNS * 1000 for one in turns[name])
        pairs = zip(turns[name], turns["predict"], strict=True)
        ratios = sorted(mine["wall"] / theirs["wall"] for mine, theirs in pairs)
        middle = len(ratios) // 2
        size = sizes[name]
        rows[name] = {
            "ms": walls[middle],
            "times_the_time": [ratios[middle], ratios[0], ratios[-1]],
            "times_the_memory": size["peak_mb"] / sizes["predict"]["peak_mb"],
            **size,
        }
        spread = f"{ratios[middle]:.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})"
        print(
            f"  {name:12}{walls[middle]:8.0f}{spread:>22}{size['peak_mb']:10.0f}"
            f"{rows[name]['times_the_memory']:7.3f}{size['peak_mb'] - size['model_mb']:22.0f}"
        )
    write_result("explain", {"case": case, "threads": threads, "rounds": rounds, "rows": rows})


def main() -> None:
    """Measure; with --contender or --memory, be one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", default="vit_b16")
    parser.add_argument("--image-size", type=int, default=384)
    parser.add_argument("--case")
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--memory", choices=CONTENDERS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    case = options.case or f"{options.model}:{options.image_size}"
    if options.memory:
        print(json.dumps(memory(case, options.memory)))
    elif options.contender:
        step = step_of(case, options.contender)
        serve(lambda: [step() for _ in range(TURNS)])
    else:
        measure(case, options.threads, options.rounds)


if __name__ == "__main__":
    main()

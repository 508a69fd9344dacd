"""Reading a checkpoint of ViT-B/16 against reading its raw tensors: time and peak memory.

    python -m benchmarks.checkpoint_reading [--rounds 7] [--model vit_b16]

Three files with random weights: Google's .npz, timm's folder (.safetensors), a .pth of the same
state dict. "raw" is what the file's own library does until every value lies in the process's own
memory: numpy.load of every array; safetensors' load_file and a copy of each tensor, since load_file
itself maps the file and reads nothing; torch.load(weights_only=True). "vitrail" is `read_external`:
the header checked, the model recognised and built, tensors rearranged to ours, checked to be finite
and put into the model. The contenders take turns, each in a fresh process that has read a tiny file
of the same kind; files are in the system's cache. Peak memory is what the process gained, by
/proc/self/status, against the size of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import write_result

KINDS = {"npz": "file.npz", "safetensors": "folder", "pth": "file.pth"}
CONTENDERS = ("raw", "vitrail")
TINY: dict[str, Any] = {"width": 24, "depth": 2, "num_heads": 3, "mlp_dim": 32, "image_size": 32}


def write_files(folder: Path, model: str, **overrides: Any) -> None:
    """The same random network in every format."""
    import torch

    from vitrail.checkpoints.external import write_foreign
    from vitrail.data.images.preprocess import Preprocess
    from vitrail.models.create import create_model

    network = create_model(model, num_classes=1000, gelu="gelu_tanh", **overrides)
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(std=0.02)
    height, width = network.config.image_size
    preprocess = Preprocess(height=height, width=width, resize=(height, width))
    folder.mkdir()
    write_foreign(network, preprocess, [], "google", folder / KINDS["npz"])
    write_foreign(network, preprocess, [], "timm", folder / KINDS["safetensors"])
    torch.save({"model": network.state_dict()}, folder / KINDS["pth"])


def reader(kind: str, contender: str) -> Callable[[Path], object]:
    """What is measured: a function of the path."""
    if contender == "vitrail":
        from vitrail.checkpoints.external import read_external

        return lambda path: read_external(
            path, given={"num_heads": 3} if "tiny" in str(path) else {}
        )
    if kind == "npz":
        import numpy as np

        return lambda path: dict(np.load(path, allow_pickle=False).items())
    if kind == "pth":
        import torch

        return lambda path: torch.load(path, weights_only=True)
    from safetensors.torch import load_file

    def copied(path: Path) -> object:
        return {
            name: value.clone() for name, value in load_file(path / "model.safetensors").items()
        }

    return copied


def measure_one(kind: str, contender: str, folder: Path, threads: int) -> dict[str, float]:
    """In a fresh process: seconds, and bytes gained at the peak."""
    import torch

    torch.set_num_threads(threads)
    read = reader(kind, contender)
    read(folder / "tiny" / KINDS[kind])
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start, used = time.perf_counter(), processor_secs()
    found = read(folder / "big" / KINDS[kind])
    seconds, used = time.perf_counter() - start, processor_secs() - used
    peak = memory("VmHWM") - before
    del found
    return {"seconds": seconds, "cpu": used, "peak": peak}


def processor_secs() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def memory(name: str) -> float:
    """Bytes from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files of a folder."""
    files = [path] if path.is_file() else list(path.iterdir())
    return sum(file.stat().st_size for file in files)


def measure(folder: Path, rounds: int, threads: int) -> dict[str, dict[str, Any]]:
    """Medians by kind of file and contender."""
    turns: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        pairs = [(kind, contender) for kind in KINDS for contender in CONTENDERS]
        for kind, contender in pairs if number % 2 == 0 else pairs[::-1]:
            command = [sys.executable, "-m", "benchmarks.checkpoint_reading", "--one", kind]
            command += [contender, str(folder), "--threads", str(threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            turns.setdefault((kind, contender), []).append(json.loads(done.stdout))
    return {kind: row_of(folder, kind, turns) for kind in KINDS}


def row_of(
    folder: Path, kind: str, turns: dict[tuple[str, str], list[dict[str, float]]]
) -> dict[str, Any]:
    """One kind of file."""
    size = size_of(folder / "big" / KINDS[kind])
    row: dict[str, Any] = {"bytes": size}
    for contender in CONTENDERS:
        found = turns[kind, contender]
        row[contender] = {
            "seconds": round(statistics.median(turn["seconds"] for turn in found), 4),
            "cpu_seconds": round(statistics.median(turn["cpu"] for turn in found), 3),
            "best": round(min(turn["seconds"] for turn in found), 4),
            "peak_of_file": round(statistics.median(turn["peak"] for turn in found) / size, 3),
        }
    ratios = [
        ours["seconds"] / theirs["seconds"]
        for ours, theirs in zip(turns[kind, "vitrail"], turns[kind, "raw"], strict=True)
    ]
    row["times"] = [
        round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))
    ]
    row["times_of_best"] = round(row["vitrail"]["best"] / row["raw"]["best"], 2)
    return row


def main() -> None:
    """Run, print, and write results/checkpoint_reading.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="vit_b16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "CONTENDER", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        kind, contender, folder = options.one
        print(json.dumps(measure_one(kind, contender, Path(folder), options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "tiny", "vit_b16", **TINY)
        write_files(Path(folder) / "big", options.model)
        rows = measure(Path(folder), options.rounds, options.threads)
    print(f"reading {options.model}: median of {options.rounds} rounds, {options.threads} threads")
    for kind, row in rows.items():
        raw, ours, times = row["raw"], row["vitrail"], row["times"]
        print(
            f"  {kind:12}{row['bytes'] / 1e6:6.0f} MB  raw {raw['seconds'] * 1e3:4.0f} ms  "
            f"vitrail {ours['seconds'] * 1e3:4.0f} ms  x {times[0]:.2f} ({times[1]}, {times[2]}); "
            f"best rounds x {row['times_of_best']}; processor {raw['cpu_seconds']:.2f} s, "
            f"{ours['cpu_seconds']:.2f} s; peak / file: raw {raw['peak_of_file']:.2f}, "
            f"vitrail {ours['peak_of_file']:.2f}"
        )
    write_result("checkpoint_reading", {**vars(options), "files": rows})


if __name__ == "__main__":
    main()

"""A table of many images, once straight and once killed (-9) ten times: is it the same table, and
how much memory did it take?

    python -m benchmarks.killed_prediction MODEL DATA [--images 10000] [--kills 10]

DATA: as training takes it; its images are written as PNG files first. Memory is the peak of
resident bytes of the command itself; its decoders share its pages and hold one image each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.data.sources.open_data import open_data

TICK_SECS = 0.05


def write_images(data: str, folder: Path, count: int) -> None:
    """The first `count` images of `data` as PNG files."""
    folder.mkdir()
    splits = open_data(data)
    source = splits.test or splits.train
    for index in range(min(count, len(source))):
        pixels, _ = source.read(index)
        Image.fromarray(np.asarray(pixels, np.uint8).squeeze()).save(
            folder / f"{index:06d}.png", compress_level=1
        )


def memory_of(pid: int) -> int:
    """The most bytes that a process has held so far; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return 0


def watched(words: list[str], out: Path, stop_at: int | None) -> tuple[int, int]:
    """Run the command, killed once `stop_at` parts lie there: its exit code, its most memory."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most, parts = 0, out.with_name(out.name + ".parts")
    while process.poll() is None:
        most = max(most, memory_of(process.pid))
        if stop_at is not None and len(list(parts.glob("part-*.jsonl"))) >= stop_at:
            time.sleep(random.uniform(0, 0.2))
            process.kill()
        time.sleep(TICK_SECS)
    return process.wait(), most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--part-rows", type=int, default=250)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        write_images(asked.data, place / "images", asked.images)
        words = [sys.executable, "-P", "-m", "vitrail", "predict", asked.model]
        words += [str(place / "images"), "--part-rows", str(asked.part_rows), "--out"]
        straight, killed = place / "straight.csv", place / "killed.csv"
        began = time.monotonic()
        code, memory = watched([*words, str(straight)], straight, None)
        secs, most, codes = time.monotonic() - began, [], []
        step = asked.images // asked.part_rows // (asked.kills + 1)
        for kill in range(asked.kills + 1):
            at = step * (kill + 1) if kill < asked.kills else None
            ended, held = watched([*words, str(killed)], killed, at)
            codes.append(ended)
            most.append(held)
        rows = killed.read_text().splitlines()[1:]
        print(
            json.dumps(
                {
                    "images": len(rows),
                    "distinct": len({row.partition(",")[0] for row in rows}),
                    "codes": [code, *codes],
                    "equal": killed.read_bytes() == straight.read_bytes(),
                    "sha256": hashlib.sha256(straight.read_bytes()).hexdigest(),
                    "straight_s": round(secs, 1),
                    "straight_mb": round(memory / 1e6, 1),
                    "killed_mb": round(max(most) / 1e6, 1),
                }
            )
        )


if __name__ == "__main__":
    main()

"""From a large index to the first batch: seconds and memory over the number of images.

The images of a folder are written to shards, and the rows of their index repeated until there are
as many as asked for. Each size is measured in a process of its own: from the call of `plan_run`
(vitrail and torch are imported) to the first training batch of two workers.

    python -m benchmarks.index_start DATA OUT.json [--sizes 5000,5000000] [--drawn]

--drawn: validation images are not given but held out of the training images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.shards.index import LARGE, IndexRecord, Rows, open_index, write_index
from vitrail.data.sources.open_data import open_whole

SIZES = (5_000, 50_000, 250_000, 500_000, 5_000_000)
HELD = 5_000
EVENTS = ("os.listdir", "os.scandir")


def main() -> None:
    """Measure every size; print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--one", action="store_true", help="measure the index at DATA")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.data)))
        return
    with tempfile.TemporaryDirectory() as place:
        shards = Path(place) / "shards"
        write_shards(open_whole(asked.data), shards, ShardOptions())
        found = []
        for size in map(int, asked.sizes.split(",")):
            folder = Path(place) / str(size)
            repeated(shards, folder, size, drawn=asked.drawn)
            command = [sys.executable, "-m", "benchmarks.index_start", str(folder), "-", "--one"]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            index_mb = (folder / "index.dat").stat().st_size / 1e6
            found.append({"images": size, "index_mb": index_mb} | json.loads(answer.stdout))
            print(json.dumps(found[-1]))
    asked.out.write_text(json.dumps({"drawn": asked.drawn, "sizes": found}, indent=1))


def repeated(shards: Path, folder: Path, size: int, *, drawn: bool) -> None:
    """An index in `folder` of the images of `shards`, over and over."""
    index = open_index(str(shards))
    own = np.resize(np.arange(len(index)), size)
    held = 0 if drawn else min(HELD, size // 5)
    order = np.argsort(index.labels[own][: size - held], kind="stable")
    own[: size - held] = own[order]
    splits = {"train": (0, size - held)} | ({"val": (size - held, size)} if held else {})
    record = IndexRecord(
        name="repeated",
        classes=index.record.classes,
        multi_label=False,
        splits=splits,
        shards=index.record.shards,
        root=os.path.relpath(shards, folder),
    )
    none = np.zeros((0, 2), np.int64)
    known = size < LARGE
    names = [f"images/{k:09d}.jpg" for k in range(size)] if known else None
    digests = np.random.default_rng(0).integers(0, 256, (size if known else 0, 16), np.uint8)
    folder.mkdir()
    write_index(
        folder,
        record,
        Rows(index.places[own], index.labels[own], digests, names, none),
    )


def measure(folder: str) -> dict[str, Any]:
    """Seconds and memory of a start on the index in `folder`."""
    from vitrail.data.loading.batching import Batching
    from vitrail.data.loading.loader import make_loader
    from vitrail.data.sources.examples import examples_of
    from vitrail.training.plan.plan_run import plan_run
    from vitrail.training.run_files import checked_plan

    counts: Counter[str] = Counter()
    sys.addaudithook(lambda event, _: counts.update([event]) if event in EVENTS else None)
    asked = {"data.path": folder, "epochs": 1.0, "device": "cpu", "workers": 2, "model": "vit_ti16"}
    asked |= {"image_size": 64, "batch_size": 64}
    before = memory(os.getpid())
    times = [time.perf_counter()]
    plan = plan_run([("command line", asked)])
    times.append(time.perf_counter())
    plan = checked_plan(plan).plan
    record = examples_of(plan.splits, is_whole=True).to_bytes()
    times.append(time.perf_counter())
    loader = make_loader(
        plan.splits.train, plan.preprocess, plan.config.augment, Batching(batch_size=64, workers=2)
    )
    batches = loader.batches(0, 100)
    next(batches)
    times.append(time.perf_counter())
    for _ in range(20):
        next(batches)
    workers = [memory(child) for child in children()]
    own = memory(os.getpid())
    batches.close()
    planned, recorded, first = np.diff(times).tolist()
    return {
        "plan_s": round(planned, 3),
        "record_s": round(recorded, 3),
        "first_batch_s": round(first, 3),
        "start_s": round(times[-1] - times[0], 3),
        "record_mb": len(record) / 1e6,
        "process_mb": own["Rss"] - before["Rss"],
        "worker_rss_mb": max(one["Rss"] for one in workers),
        "worker_private_mb": max(one["Private"] for one in workers),
        "listings": sum(counts.values()),
    }


def children() -> list[int]:
    """The processes that this one started."""
    pid = os.getpid()
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid: int) -> dict[str, float]:
    """Megabytes of a process: all that is resident, and what is its own."""
    found: Counter[str] = Counter()
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name.partition("_")[0]] += int(value.split()[0])
    return {name: round(found[name] / 1e3, 1) for name in ("Rss", "Private")}


if __name__ == "__main__":
    main()

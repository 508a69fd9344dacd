"""Images a CPU second out of a folder and out of its shards, beside decoding alone.

    python -m benchmarks.shard_reading DATA OUT.json [--rounds 7]

One thread, page cache warm, places in a drawn order, the sides taking turns; figures are medians
of the rounds, of CPU time (other work on the machine does not count).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitrail.data.images.decode import decode
from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.sources.open_data import open_whole
from vitrail.data.sources.source import Source


def main() -> None:
    """Measure; print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_shards(open_whole(asked.data), Path(place) / "shards", ShardOptions())
        folder, shards = open_whole(asked.data).train, open_whole(f"{place}/shards").train
        order = np.random.default_rng(0).permutation(len(folder)).tolist()
        contents = [bytes(folder.read(i)[0]) for i in order]
        assert contents == [shards.read(i)[0] for i in order]
        sides: dict[str, Callable[[], object]] = {
            "decode": lambda: [decode(one) for one in contents],
            "folder": lambda: _decoded(folder, order),
            "shards": lambda: _decoded(shards, order),
            "folder, read": lambda: [folder.read(i) for i in order],
            "shards, read": lambda: [shards.read(i) for i in order],
        }
        secs: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(asked.rounds):
            for name, side in sides.items():
                began = time.process_time()
                side()
                secs[name].append(time.process_time() - began)
    found = {name: round(len(order) / statistics.median(own)) for name, own in secs.items()}
    ratios = {
        f"{one} / {other}": round(
            statistics.median(b / a for a, b in zip(secs[one], secs[other], strict=True)), 4
        )
        for one, other in (("shards", "folder"), ("shards", "decode"), ("folder", "decode"))
    }
    document = {"images": len(order), "images_per_cpu_s": found, "ratios": ratios}
    print(json.dumps(document, indent=1))
    asked.out.write_text(json.dumps(document, indent=1) + "\n")


def _decoded(source: Source, order: list[int]) -> None:
    for index in order:
        content = source.read(index)[0]
        assert isinstance(content, bytes)
        decode(content)


if __name__ == "__main__":
    main()

"""The same images as folder, tar shards, Parquet and an object store, by one and by two processes.

Each way trains the same tiny run with --exact; all must end with the same weights and metrics.

    python -m benchmarks.same_weights DATA OUT.json [--steps 8]

DATA: a folder of classes. The store is fsspec's file://, and memory:// for one process, with a
cache that holds a part of the shards. Needs the extra `studies` (pyarrow).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vitrail.data.indexing.foreign import index_shards
from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.sources.open_data import open_whole

SETTINGS = {
    "model.name": "vit_ti8",
    "model.depth": 2,
    "model.width": 48,
    "model.num_heads": 3,
    "model.mlp_dim": 96,
    "model.dropout": 0.1,
    "data.image_size": 32,
    "augment.mixup": 0.2,
    "batch_size": 32,
    "optim.accumulate": 4,
    "exact": "true",
    "precision": "float32",
    "device": "cpu",
    "threads": 1,
    "data.workers": 1,
    "residual_baseline": "false",
}
SHARD_BYTES = 1_000_000
CACHE_BYTES = 5_000_000


def main() -> None:
    """Train every way, print and write what each came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_shards(open_whole(asked.data), place / "tar", ShardOptions(shard_bytes=SHARD_BYTES))
        parquet_of(asked.data, place / "files/train.parquet")
        index_shards(place / "files", place / "parquet", ShardOptions())
        ways = {
            "folder": str(asked.data.resolve()),
            "tar": str(place / "tar"),
            "parquet": str(place / "parquet"),
            "store": f"file://{place / 'tar'}",
        }
        found = {
            f"{name}, {count}": trained(place, f"{name}-{count}", data, asked.steps, count)
            for name, data in ways.items()
            for count in (1, 2)
        }
        found["memory store, 1"] = trained(place, "memory", "memory://bucket", asked.steps, 1)
    is_same = len({json.dumps(one) for one in found.values()}) == 1
    asked.out.write_text(json.dumps({"same": is_same, "ways": found}, indent=1))
    print("the same" if is_same else "NOT the same")


def trained(place: Path, name: str, data: str, steps: int, count: int) -> dict[str, str]:
    """sha256 of the weights and of the losses of a run by `count` processes."""
    settings = SETTINGS | {"steps": steps, "name": name, "out": str(place / "runs")}
    if "://" in data:
        settings |= {"data.cache": str(place / f"cache-{name}"), "data.cache_bytes": CACHE_BYTES}
    words = [
        word
        for key, value in settings.items()
        for word in (f"--{key.replace('_', '-')}", str(value))
    ]
    more = [] if count == 1 else ["--nproc", str(count)]
    line = [sys.executable, "-m", "vitrail", "train", data, *words, *more]
    if data.startswith("memory://"):
        line[1:3] = ["-c", IN_MEMORY, str(place / "tar")]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    run = place / "runs" / name
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: row[key] for key in sorted(row) if not key.startswith("perf/")} for row in rows]
    model = (run / "model/model.safetensors").read_bytes()
    found: dict[str, str] = {
        "weights": hashlib.sha256(model).hexdigest(),
        "metrics": hashlib.sha256(json.dumps(kept).encode()).hexdigest(),
    }
    print(name, found["weights"][:12], found["metrics"][:12], flush=True)
    return found


IN_MEMORY = """
import sys
from pathlib import Path
from fsspec.implementations.memory import MemoryFileSystem
from vitrail.cli.main import main
for path in Path(sys.argv[1]).iterdir():
    MemoryFileSystem().pipe_file(f"/bucket/{path.name}", path.read_bytes())
sys.exit(main(sys.argv[2:]))
"""


def parquet_of(data: Path, out: Path) -> None:
    """A folder of classes as one Parquet file in the layout of the Hugging Face hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = sorted(path.name for path in data.iterdir() if path.is_dir())
    rows: list[dict[str, Any]] = [
        {
            "image": {"bytes": path.read_bytes(), "path": f"{name}/{path.name}"},
            "label": label,
        }
        for label, name in enumerate(classes)
        for path in sorted((data / name).iterdir())
    ]
    table = pa.Table.from_pylist(rows)
    about = {"info": {"features": {"label": {"names": classes, "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    out.parent.mkdir(parents=True)
    pq.write_table(table, out, row_group_size=100)


if __name__ == "__main__":
    main()

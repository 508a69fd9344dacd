"""`vitrail data shard` and `vitrail data index`: images for training at any scale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.api.options import BadFiles
from vitrail.cli.display.output import Output
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.data.shards.index import IndexRecord

Out = Annotated[Output, Parameter(parse=False)]


def shard(
    data: str,
    out: Path,
    /,
    *,
    shard_bytes: str = "256M",
    short_side: int = 0,
    on_bad_file: BadFiles = "stop",
    max_pixels: int = 64_000_000,
    workers: int = 1,
    output: Out,
) -> int:
    """Write images as tar shards with an index; every image is decoded once.

    Parameters
    ----------
    data
        Image files, as for vitrail train.
    out
        The folder to write; must not exist.
    shard_bytes
        Size of a shard at most: 256M, 1G.
    short_side
        Make larger images smaller, to this short side in pixels; 0 stores the files as they are.
    on_bad_file
        stop names every image that cannot be decoded; skip leaves them out.
    max_pixels
        Reject images with more pixels.
    workers
        Processes that decode.
    """
    from vitrail.api.shards import shard_data

    notes: list[str] = []
    record = shard_data(
        data,
        out,
        shard_bytes=shard_bytes,
        short_side=short_side,
        on_bad_file=on_bad_file,
        max_pixels=max_pixels,
        workers=workers,
        say=notes.append,
    )
    for note in notes:
        output.note(f"data: {note}")
    shown = {"data": data, **summary(record, out), "notes": notes}
    output.result(shown, lines_of(record, out))
    return 0


def index(
    shards: str,
    /,
    *,
    out: Path,
    on_bad_file: BadFiles = "stop",
    max_pixels: int = 64_000_000,
    workers: int = 1,
    output: Out,
) -> int:
    """Index shards that are there, without rewriting them; every image is decoded once.

    Parameters
    ----------
    shards
        A folder of tar files in the WebDataset layout (labels in .cls or .json; indices of timm,
        Megatron-Energon and webshart are compared), or of Parquet files with image and label.
    out
        The folder to write the index to; must not exist.
    on_bad_file
        stop names every image that cannot be decoded; skip leaves them out.
    max_pixels
        Reject images with more pixels.
    workers
        Processes that decode.
    """
    from vitrail.api.shards import index_data

    record = index_data(
        shards, out, on_bad_file=on_bad_file, max_pixels=max_pixels, workers=workers
    )
    output.result({"shards": shards, **summary(record, out)}, lines_of(record, out))
    return 0


def summary(record: IndexRecord, out: Path) -> dict[str, object]:
    """What was written, for programs."""
    return {
        "out": out,
        "classes": len(record.classes),
        "counts": {part: last - first for part, (first, last) in record.splits.items()},
        "shards": len(record.shards),
        "bytes": sum(one.num_bytes for one in record.shards),
        "bad_files": [{"path": name, "reason": why} for name, why in record.bad],
    }


def lines_of(record: IndexRecord, out: Path) -> list[str]:
    """What was written, for people."""
    counts = ", ".join(f"{part} {b - a:,}" for part, (a, b) in record.splits.items())
    size = sum(one.num_bytes for one in record.shards) / 1e6
    number = len(record.classes)
    class_count = f"{number:,} class{'es' * (number != 1)}"
    bad = [f"left out  {name}: {why}" for name, why in record.bad]
    return [
        f"{record.name}  {class_count} | {counts}",
        f"{count(len(record.shards), 'shard')}, {size:,.1f} MB",
        *bad,
        f"wrote {out}",
        f"next  vitrail train {out}",
    ]

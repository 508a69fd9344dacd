"""`vitrail data shard` and `vitrail data index`: images for training at any scale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrail.cli.display.output import Output
from vitrail.errors import UsageError, check_numbers
from vitrail.files import refuse_existing
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.data.shards.index import IndexRecord

Out = Annotated[Output, Parameter(parse=False)]
BadFiles = Literal["stop", "skip"]
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
LEAST_PX = 16
_LEAST, _MOST = 10**5, 2**33 - 1


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
    from vitrail.cli.eval_run import say_notes
    from vitrail.data.images.decode import MAX_SIDE_PX
    from vitrail.data.indexing.shard_making import ShardOptions, write_shards
    from vitrail.data.sources.open_data import open_whole

    check_numbers({"--max-pixels": max_pixels})
    if not (short_side == 0 or LEAST_PX <= short_side <= MAX_SIDE_PX):
        raise UsageError(
            "VIT-202",
            f"--short-side {short_side}: expected 0, or {LEAST_PX} to {MAX_SIDE_PX} pixels.",
            hint="For instance --short-side 256",
        )
    most = bytes_of(shard_bytes)
    refuse_existing(out, hint="Choose another folder: vitrail data shard DATA OUT")
    options = ShardOptions(most, short_side, workers, max_pixels, on_bad_file == "skip")
    splits = open_whole(data)
    say_notes(splits, output)
    record = write_shards(splits, out, options)
    shown = {"data": data, **summary(record, out), "notes": splits.notes}
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
    from vitrail.data.indexing.foreign import index_shards
    from vitrail.data.indexing.shard_making import ShardOptions

    check_numbers({"--max-pixels": max_pixels})
    refuse_existing(out)
    options = ShardOptions(workers=workers, max_pixels=max_pixels, skip_bad=on_bad_file == "skip")
    record = index_shards(Path(shards), out, options)
    output.result({"shards": shards, **summary(record, out)}, lines_of(record, out))
    return 0


def bytes_of(text: str) -> int:
    """256M -> 256,000,000. Raises UsageError VIT-202."""
    found = re.fullmatch(r"(\d{1,12})([KMG]?)B?", text.strip(), re.IGNORECASE)
    size = int(found[1]) * _UNITS[found[2].upper()] if found else 0
    if not _LEAST <= size <= _MOST:
        raise UsageError(
            "VIT-202",
            f"--shard-bytes {text}: expected a size from 100K to 8G.",
            hint="For instance --shard-bytes 256M",
        )
    return size


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

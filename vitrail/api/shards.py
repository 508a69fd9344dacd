"""Images as shards for training at any scale, from Python: `vitrail data shard` and `index`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vitrail.api.options import BadFiles
from vitrail.data.images.decode import MAX_SIDE_PX
from vitrail.data.indexing.foreign import index_shards
from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.shards.index import IndexRecord
from vitrail.data.sources.open_data import open_whole
from vitrail.errors import UsageError, check_numbers
from vitrail.files import refuse_existing

Say = Callable[[str], None]
MAX_PIXELS = 64_000_000
LEAST_PX = 16
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_LEAST, _MOST = 10**5, 2**33 - 1


def shard_data(
    data: str | Path,
    out: str | Path,
    *,
    shard_bytes: str = "256M",
    short_side: int = 0,
    on_bad_file: BadFiles = "stop",
    max_pixels: int = MAX_PIXELS,
    workers: int = 1,
    say: Say = lambda text: None,
) -> IndexRecord:
    """Write image files as tar shards with an index into the new folder `out`, which `train` takes.

    shard_bytes: size of a shard at most, "256M", "1G". short_side: make larger images smaller, to
    this short side in px; 0 stores the files as they are. on_bad_file: stop names every image that
    cannot be decoded; skip leaves them out. workers: processes that decode. say: hears what of the
    data is left out.

    Raises UsageError VIT-202, VIT-206 where `out` exists; DataError VIT-301 to VIT-321.
    """
    check_numbers({"--max-pixels": max_pixels})
    if not (short_side == 0 or LEAST_PX <= short_side <= MAX_SIDE_PX):
        raise UsageError(
            "VIT-202",
            f"--short-side {short_side}: expected 0, or {LEAST_PX} to {MAX_SIDE_PX} pixels.",
            hint="For instance --short-side 256",
        )
    most = bytes_of(shard_bytes)
    refuse_existing(Path(out), hint="Choose another folder: vitrail data shard DATA OUT")
    options = ShardOptions(most, short_side, workers, max_pixels, on_bad_file == "skip")
    splits = open_whole(data)
    for note in splits.notes:
        say(note)
    return write_shards(splits, Path(out), options)


def index_data(
    shards: str | Path,
    out: str | Path,
    *,
    on_bad_file: BadFiles = "stop",
    max_pixels: int = MAX_PIXELS,
    workers: int = 1,
) -> IndexRecord:
    """Index shards that are there (tar in the WebDataset layout, Parquet with image and label) into
    the new folder `out`, without rewriting them; every image is decoded once.

    Raises UsageError VIT-206 where `out` exists; DataError VIT-301 to VIT-321; EnvironmentFault
    VIT-520 for Parquet without its library.
    """
    check_numbers({"--max-pixels": max_pixels})
    refuse_existing(Path(out))
    options = ShardOptions(workers=workers, max_pixels=max_pixels, skip_bad=on_bad_file == "skip")
    return index_shards(Path(shards), Path(out), options)


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

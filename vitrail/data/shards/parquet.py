"""Images in Parquet files: a place is a row, and what is read is the group of rows that holds it.

A few groups are kept in each process, for reads of neighbouring rows; at random places a group is
read for each image (groups of 100 rows, as the Hugging Face hub writes them, cost about three
decodes). pyarrow is an extra: vitrail[studies].
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from vitrail.data.shards.store import Shard, differs, local_file
from vitrail.errors import lacking

GROUPS = 4  # kept in a process


@dataclass(frozen=True)
class ParquetStore:
    """Parquet files in a folder; column: the image's, with its bytes or a record that has them."""

    root: str
    column: str
    opened: int = field(default_factory=lambda: int.from_bytes(os.urandom(7)))

    def read(self, shard: Shard, offset: int, size: int) -> bytes:
        """The image in row `offset`. Raises DataError VIT-333 where it is not what was indexed."""
        path = os.path.join(self.root, shard.name)
        try:
            local_file(path, shard.num_bytes, self.opened)
            data = image_bytes(path, self.column, offset, self.opened)
        except (OSError, ValueError, IndexError) as error:
            raise differs(path, str(error)) from error
        if len(data) != size:
            raise differs(path, f"row {offset} holds {len(data):,} bytes; indexed were {size:,}")
        return data


def image_bytes(path: str, column: str, row: int, token: int) -> bytes:
    """Of one row. Raises OSError, ValueError, IndexError."""
    ends = group_ends(path, token)
    group = next((k for k, end in enumerate(ends) if row < end), None)
    if group is None:
        raise IndexError(f"it has {ends[-1] if ends else 0} rows")
    first = ends[group - 1] if group else 0
    value = _group(path, column, group, token)[row - first].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ValueError(f"row {row} holds no image bytes")
    return data


@lru_cache(maxsize=256)
def group_ends(path: str, token: int) -> tuple[int, ...]:
    """Where the groups of rows of a file end."""
    meta, ends, end = parquet().read_metadata(path), [], 0
    for group in range(meta.num_row_groups):
        end += meta.row_group(group).num_rows
        ends.append(end)
    return tuple(ends)


@lru_cache(maxsize=GROUPS)
def _group(path: str, column: str, group: int, token: int) -> Any:
    with parquet().ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column], use_threads=False).column(0)


def parquet() -> Any:
    """The module of pyarrow. Raises EnvironmentFault VIT-520 where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise lacking("reading Parquet", "pyarrow", "studies") from error
    return pyarrow.parquet

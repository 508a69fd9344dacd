"""Tensors of a model that was saved in several files under one index, as one file.

transformers writes `model.safetensors.index.json` or `pytorch_model.bin.index.json`, whose
`weight_map` names the file of each tensor. The map is checked against the files: each tensor of
each of them once, no tensor without a place, no file outside of the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Protocol

from torch import Tensor

from vitrail.checkpoints.formats.limits import (
    MAX_JSON_BYTES,
    check_count,
    check_header,
    damaged,
    shown,
    too_much,
)
from vitrail.checkpoints.formats.open_file import OpenFile
from vitrail.checkpoints.formats.safetensors_file import parse_json
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.mapping.scratch import Memory
from vitrail.errors import ModelError
from vitrail.spelling import count

MAX_SHARDS = 1_000
INDEX = ".index.json"


class ShardFile(Protocol):
    """An open file of tensors."""

    header: Header

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file."""

    def close(self) -> None:
        """Closes the file."""


class Shards:
    """Several files of tensors as one; `parts` by the tensors' names."""

    def __init__(self, name: str, parts: Mapping[str, ShardFile], max_bytes: int) -> None:
        self.parts = parts
        shapes = {key: part.header.shapes[key] for key, part in parts.items()}
        dtypes = {key: part.header.dtypes[key] for key, part in parts.items()}
        check_header(name, shapes, dtypes, max_bytes)
        self.header = Header(name, shapes, dtypes)

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file. Raises ModelError VIT-412."""
        return self.parts[name].read(name, memory)

    def close(self) -> None:
        """Closes the files."""
        for part in {id(part): part for part in self.parts.values()}.values():
            part.close()


def open_shards(
    index: Path, name: str, open_part: Callable[[Path, str], ShardFile], max_bytes: int
) -> Shards:
    """The files that the index names, all beside it and all of the index's own kind.

    Raises ModelError VIT-411, VIT-412, VIT-433 where one is missing.
    """
    table = _table(index)
    opened: dict[str, ShardFile] = {}
    try:
        for shard in sorted(set(table.values())):
            opened[shard] = open_part(_place(index, shard), shard)
        _check(index.name, table, opened)
        return Shards(name, {key: opened[shard] for key, shard in table.items()}, max_bytes)
    except BaseException:
        for part in opened.values():
            part.close()
        raise


def parts_of(index: Path) -> list[Path]:
    """The files that an index names, in order of name."""
    return [_place(index, shard) for shard in sorted(set(_table(index).values()))]


def _table(index: Path) -> dict[str, str]:
    """File names by tensor. Raises ModelError VIT-411, VIT-412."""
    file = OpenFile(index, index.name)
    try:
        table = parse_json(file.bytes_at(0, MAX_JSON_BYTES + 1), index.name).get("weight_map")
    finally:
        file.close()
    if not isinstance(table, dict) or not all(isinstance(item, str) for item in table.values()):
        raise damaged(index.name, "it has no table weight_map of names")
    check_count(index.name, len(table))
    num_files = len(set(table.values()))
    if num_files > MAX_SHARDS:
        raise too_much(index.name, count(num_files, "file"), f"{MAX_SHARDS}")
    return table


def _place(index: Path, shard: str) -> Path:
    """Raises ModelError VIT-412 for a file elsewhere or of another kind, VIT-433 for none."""
    place, ending = index.parent / shard, Path(index.name.removesuffix(INDEX)).suffix
    if PurePath(shard).name != shard or "\\" in shard or not shard.endswith(ending):
        raise damaged(index.name, f"it names {shown(shard)!r}, not a {ending} file next to it")
    if not place.is_file():
        raise ModelError(
            "VIT-433", f"{index.parent.name}: {shown(shard)} is missing.", hint="Get the file too."
        )
    return place


def _check(index: str, table: Mapping[str, str], opened: Mapping[str, ShardFile]) -> None:
    """Every tensor of every file is in the index, with that file. Raises ModelError VIT-412."""
    for key, shard in table.items():
        if key not in opened[shard].header.shapes:
            raise damaged(index, f"{shown(key)} is not in {shard}")
    for shard, part in opened.items():
        for key in part.header.shapes:
            if table.get(key) != shard:
                other = f"is in {table[key]} by the index" if key in table else "is not in it"
                raise damaged(index, f"{shown(key)} of {shard} {other}")

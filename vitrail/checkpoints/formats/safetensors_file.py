"""Tensors of a .safetensors file, one at a time.

The format (huggingface/safetensors README): 8 bytes length, a JSON object {name: {dtype, shape,
data_offsets}}, then the values without holes. It is checked here to the letter, because a hole can
hide another file and an overlap can blow up a small one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitrail.checkpoints.formats.limits import (
    ITEM_BYTES,
    MAX_DIMS,
    MAX_JSON_BYTES,
    check_count,
    check_float,
    check_header,
    damaged,
    num_bytes,
    shown,
    too_much,
)
from vitrail.checkpoints.formats.open_file import OpenFile, empty_values
from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.checkpoints.mapping.scratch import Memory
from vitrail.documents import no_repeats

NOTE = "__metadata__"


class SafetensorsFile:
    """An open file. Raises ModelError VIT-411 or VIT-412 for what no model has."""

    def __init__(self, file: OpenFile, max_bytes: int) -> None:
        self.file = file
        size = struct.unpack("<Q", file.bytes_at(0, 8).ljust(8, b"\0"))[0]
        if size > MAX_JSON_BYTES:
            raise too_much(file.name, f"a header of {size} bytes", f"{MAX_JSON_BYTES}")
        if 8 + size > file.size:
            raise damaged(file.name, f"its header ends at byte {8 + size} of {file.size}")
        self.start = 8 + int(size)
        table = parse_json(file.bytes_at(8, size), file.name)
        note = table.pop(NOTE, {})
        check_count(file.name, len(table))
        shapes: dict[str, Shape] = {}
        dtypes: dict[str, str] = {}
        self.places: dict[str, tuple[int, int]] = {}
        for name, entry in table.items():
            dtypes[name], shapes[name], self.places[name] = _entry(file.name, name, entry)
        check_header(file.name, shapes, dtypes, max_bytes)
        self._check_places(shapes, dtypes)
        self.header = Header(file.name, shapes, dtypes, {"safetensors": _note(file.name, note)})

    def _check_places(self, shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> None:
        """Values follow each other without holes and overlaps up to the end of the file."""
        end = 0
        for name, (first, last) in sorted(self.places.items(), key=lambda item: item[1]):
            if first != end or last < first:
                raise damaged(
                    self.file.name,
                    f"{shown(name)} lies at bytes {first} to {last} of the values; expected {end}",
                )
            if last - first != num_bytes(dtypes[name], shapes[name]):
                raise damaged(
                    self.file.name,
                    f"{shown(name)} {shapes[name]} has {last - first} bytes; expected "
                    f"{num_bytes(dtypes[name], shapes[name])}",
                )
            end = last
        if self.start + end != self.file.size:
            raise damaged(
                self.file.name, f"it has {self.file.size} bytes; expected {self.start + end}"
            )

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file. Raises ModelError VIT-412."""
        check_float(self.header, name)
        first, last = self.places[name]
        dtype = self.header.dtypes[name]
        values, room = empty_values(dtype, (last - first) // ITEM_BYTES[dtype], memory)
        self.file.fill(self.start + first, room)
        return values.reshape(self.header.shapes[name])

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object without repeated keys. Raises ModelError VIT-412."""
    if len(data) > MAX_JSON_BYTES:
        raise too_much(name, "JSON", f"{MAX_JSON_BYTES} bytes")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=no_repeats)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:100] or type(error).__name__
        raise damaged(name, f"its JSON cannot be read ({reason})") from error
    if not isinstance(found, dict):
        raise damaged(name, "its JSON is no object")
    return found


def _entry(file: str, name: str, entry: object) -> tuple[str, Shape, tuple[int, int]]:
    if isinstance(entry, dict) and set(entry) == {"dtype", "shape", "data_offsets"}:
        kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
        if isinstance(kind, str) and _is_sizes(shape) and _is_sizes(place) and len(place) == 2:
            return kind, tuple(shape[: MAX_DIMS + 1]), (place[0], place[1])
    raise damaged(file, f"{shown(name)} has no proper type, shape and place")


def _is_sizes(value: object) -> bool:
    """A list of numbers from 0, small enough to be counted in bytes."""
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**62 for item in value
    )


def _note(file: str, note: object) -> dict[str, str]:
    if not isinstance(note, dict) or not all(isinstance(item, str) for item in note.values()):
        raise damaged(file, "its metadata is no table of texts")
    return note

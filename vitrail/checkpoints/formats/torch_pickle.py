"""Tensors of a PyTorch file (.pth, .pt, .bin), one at a time, without running what is in it.

The file describes its tensors by a pickle, a program that can call anything. `pickle_sandbox`
reads that program in a process with nothing to call and nowhere to go, and answers with names,
shapes and places; the values are then read from the file by offset, as of any other format. So
torch's own reader, for which the process would have to load torch, takes no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

from torch import Tensor

from vitrail.checkpoints.formats.limits import (
    ITEM_BYTES,
    check_float,
    check_header,
    damaged,
    shown,
    too_much,
)
from vitrail.checkpoints.formats.open_file import OpenFile, empty_values
from vitrail.checkpoints.formats.zip_directory import (
    STORED,
    ZipEntry,
    data_offset,
    fill_from,
    member_bytes,
)
from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.checkpoints.mapping.scratch import Memory
from vitrail.errors import ModelError
from vitrail.system.pickle_process import PickleRefused, ask

MAX_PICKLE_BYTES = 16 * 2**20  # of the description: about 150 bytes a tensor
DESCRIPTION = "data.pkl"


class Place(NamedTuple):
    """A tensor's values: in which storage, from which number on, with which strides."""

    storage: str
    offset: int
    strides: Shape


class TorchFile:
    """An open file. Raises ModelError VIT-402 for a pickle that asks for more than tensors,
    VIT-411 or VIT-412 for what no model has.
    """

    def __init__(
        self,
        file: OpenFile,
        members: dict[str, ZipEntry] | None,
        max_bytes: int,
        table: str = "",
    ) -> None:
        """members: of the zip file; None for the format before PyTorch 1.6. table: which of several
        is wanted.
        """
        self.file, self.members = file, members
        self.prefix = ""
        if members is None:
            answer = _ask_child(file, None, table)
        else:
            self.prefix, description = _description(file, members)
            answer = _ask_child(file, description, table)
        self.legacy = _legacy_places(answer)
        self.places: dict[str, Place] = {}
        shapes: dict[str, Shape] = {}
        dtypes: dict[str, str] = {}
        rows = answer["tensors"]
        for name, row in rows.items():
            dtypes[name], storage, offset, shape, strides = row
            shapes[name] = tuple(shape)
            self.places[name] = Place(storage, offset, tuple(strides))
        check_header(file.name, shapes, dtypes, max_bytes)
        for name, shape in shapes.items():
            self._check(name, dtypes[name], shape)
        said = {key: answer[key] for key in ("wrapped", "others", "more", "beside")}
        self.header = Header(file.name, shapes, dtypes, {"torch": said})

    def _check(self, name: str, dtype: str, shape: Shape) -> None:
        """The tensor lies within its storage, which lies within the file."""
        place = self.places[name]
        if len(place.strides) != len(shape) or min((place.offset, *place.strides, *shape)) < 0:
            raise damaged(self.file.name, f"{shown(name)} {shape} has strides {place.strides}")
        count = self._count(place.storage, dtype, name)
        last = place.offset + sum(
            (size - 1) * stride for size, stride in zip(shape, place.strides, strict=True)
        )
        if prod(shape) and (last >= count or prod(shape) > count):
            raise damaged(
                self.file.name,
                f"{shown(name)} {shape} does not fit its storage of {count} numbers",
            )

    def _count(self, storage: str, dtype: str, name: str) -> int:
        """Numbers in a storage."""
        if self.members is None:
            if storage not in self.legacy:
                raise damaged(self.file.name, f"{shown(name)} has no values")
            return self.legacy[storage][1]
        member = self.members.get(f"{self.prefix}data/{storage}")
        if member is None or member.size % ITEM_BYTES[dtype]:
            raise damaged(self.file.name, f"{shown(name)} has no values")
        return member.size // ITEM_BYTES[dtype]

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file. Raises ModelError VIT-412."""
        check_float(self.header, name)
        place, shape = self.places[name], self.header.shapes[name]
        dtype = self.header.dtypes[name]
        if prod(shape) == 0:
            return empty_values(dtype, 0, None)[0].reshape(shape)
        span = 1 + sum((n - 1) * stride for n, stride in zip(shape, place.strides, strict=True))
        values, room = empty_values(dtype, span, memory)
        self._fill(place, self._count(place.storage, dtype, name), ITEM_BYTES[dtype], room)
        return values.as_strided(shape, place.strides)

    def _fill(self, place: Place, count: int, width: int, room: memoryview) -> None:
        """The bytes from the tensor's first number on; of a whole storage checked by its CRC."""
        if self.members is None:
            self.file.fill(self.legacy[place.storage][0] + place.offset * width, room)
            return
        member = self.members[f"{self.prefix}data/{place.storage}"]
        if len(room) == count * width:
            # torch can be told to leave out the CRC and then writes 0.
            fill_from(self.file, member, 0, room, check=member.crc != 0)
        elif member.method == STORED:
            start = data_offset(self.file, member) + place.offset * width
            self.file.fill(start, room)
        else:
            whole = bytearray(count * width)
            fill_from(self.file, member, 0, memoryview(whole))
            room[:] = memoryview(whole)[place.offset * width :][: len(room)]

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def is_torch_zip(members: Mapping[str, ZipEntry]) -> bool:
    """Whether a zip file with these members was written by torch.save."""
    return any(name.split("/")[-1] == DESCRIPTION for name in members)


def _description(file: OpenFile, members: dict[str, ZipEntry]) -> tuple[str, bytes]:
    """The folder inside the zip file and its description."""
    found = [name for name in members if name.split("/")[-1] == DESCRIPTION]
    if len(found) != 1:
        raise damaged(file.name, f"it has {len(found)} descriptions of tensors")
    prefix, member = found[0].removesuffix(DESCRIPTION), members[found[0]]
    if f"{prefix}constants.pkl" in members:
        raise ModelError(
            "VIT-402",
            f"{file.name} is a TorchScript program, not a file of tensors.",
            hint="Save its tensors: torch.save(model.state_dict(), PATH)",
        )
    if member.size > MAX_PICKLE_BYTES:
        raise too_much(file.name, f"a description of {member.size} bytes", f"{MAX_PICKLE_BYTES}")
    order = members.get(f"{prefix}byteorder")
    if order is not None and member_bytes(file, order, 10) != b"little":
        raise damaged(file.name, "its numbers are big-endian, which no file of a model is")
    return prefix, member_bytes(file, member, member.size)


def _ask_child(file: OpenFile, description: bytes | None, table: str) -> dict[str, Any]:
    """What the process that reads the pickle says; `description` None: it reads the file itself."""
    words = ("legacy" if description is None else "zip", table)
    try:
        answer, _ = ask(
            file.name, *words, source=file.handle if description is None else description
        )
    except PickleRefused as refused:
        raise _refused(file.name, str(refused)) from refused
    if "tables" in answer:
        raise ModelError(
            "VIT-427",
            f"{file.name} holds several tables of tensors: {', '.join(answer['tables'])}"
            + (f"; none is called {table!r}." if table else ", none with a usual name."),
            hint="Name the one that is meant: --table NAME",
        )
    return answer


def _legacy_places(answer: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {key: (place[0], place[1]) for key, place in answer.get("storages", {}).items()}


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        "VIT-402",
        f"{name} is a pickle (it can run code when opened) and is refused: {why}. Expected tensors "
        "and nothing else.",
        hint="Save its tensors alone: torch.save(model.state_dict(), PATH), or as .safetensors.",
    )

"""The images and labels of a tar file in the WebDataset layout, and indices that others made of it.

webdataset 1.0 (README, "The WebDataset Format"): members whose names are equal up to the first dot
of the last part of the path are one sample, and follow each other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.images.image_file import MAX_FILE_BYTES
from vitrail.data.shards.tar import BLOCK, MAX_MEMBERS, Member, TarFault, members
from vitrail.data.sources.walk import IMAGE_SUFFIXES
from vitrail.folder import Folder
from vitrail.spelling import count, printable

MAX_LABEL_BYTES = 2**20
_NAMES = ("label", "cls", "class", "class_id", "class_index", "target", "class_name", "category")
_SEVERAL = ("labels", "classes", "class_ids", "targets")

Label = int | str | tuple[int | str, ...]


class Sample(NamedTuple):
    """An image: where it lies, the name of its member, its label."""

    shard: int
    offset: int
    size: int
    name: str
    label: Label


def samples_of(file: int, shard: int) -> list[Sample]:
    """The images of the archive behind a descriptor. Raises TarFault, ValueError for a sample
    without label or image, OSError.
    """
    groups: dict[str, dict[str, Member]] = {}
    for member in members(file):
        key, ending = _parts(member.name)
        group = groups.setdefault(key, {})
        if ending in group:
            raise TarFault(f"{printable(member.name)} is there twice")
        group[ending] = member
    return [
        found
        for key, group in groups.items()
        if (found := _sample(file, shard, key, group)) is not None
    ]


def _parts(name: str) -> tuple[str, str]:
    """Key and ending: a/b.seg.png -> a/b, seg.png."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _sample(file: int, shard: int, key: str, group: Mapping[str, Member]) -> Sample | None:
    """None for members that are no sample: a README, a __meta__."""
    images = [ending for ending in group if ending.rpartition(".")[2] in IMAGE_SUFFIXES]
    label = _label(file, key, group)
    if not images and label is None:
        return None
    if len(images) != 1:
        raise ValueError(f"sample {printable(key)} has {count(len(images), 'image')}; expected one")
    if label is None:
        raise ValueError(f"sample {printable(key)} has no label")
    image = group[images[0]]
    if image.size > MAX_FILE_BYTES:
        raise ValueError(f"sample {printable(key)}: {image.size} bytes; limit {MAX_FILE_BYTES}")
    return Sample(shard, image.offset, image.size, image.name, label)


def _label(file: int, key: str, group: Mapping[str, Member]) -> Label | None:
    for ending in ("cls", "cls.txt", "label", "json"):
        member = group.get(ending)
        if member is None:
            continue
        if member.size > MAX_LABEL_BYTES:
            raise ValueError(f"sample {printable(key)}: a label of {member.size} bytes")
        text = os.pread(file, member.size, member.offset)
        found = _told(key, text) if ending == "json" else _plain(key, text)
        if found is not None:
            return found
    return None


def _plain(key: str, text: bytes) -> Label:
    try:
        word = text.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"the label of sample {printable(key)} is no text") from error
    if not word or "\n" in word:
        raise ValueError(f"the label of sample {printable(key)} is no number or name")
    return word


def _told(key: str, text: bytes) -> Label | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the .json of sample {printable(key)} cannot be read") from error
    if not isinstance(document, dict):
        return None
    for name in _NAMES:
        if (one := document.get(name)) is not None and _is_label(one):
            found: Label = one
            return found
    for name in _SEVERAL:
        several = document.get(name)
        if isinstance(several, list) and all(map(_is_label, several)):
            return tuple(several)
    return None


def _is_label(one: Any) -> bool:
    return isinstance(one, str | int) and not isinstance(one, bool) and one != "" and one != -1


def compare_indices(path: Path, file: int, webshart: Any) -> None:
    """Compare what others wrote of this shard with its headers. Raises TarFault where it is of
    another tar.
    """
    energon = Path(f"{path}.idx")
    if not energon.is_file() and not isinstance(webshart, dict):
        return
    found = list(members(file))
    if energon.is_file():
        _compare_energon(energon, found)
    files = webshart.get("files") if isinstance(webshart, dict) else None
    if isinstance(files, dict):
        places = {one.name: (one.offset, one.size) for one in found}
        for name, entry in files.items():
            told = (entry.get("offset"), entry.get("length")) if isinstance(entry, dict) else None
            if places.get(name) != told:
                raise TarFault(f"{path.stem}.json is the index of another tar ({printable(name)})")


def _compare_energon(index: Path, found: list[Member]) -> None:
    """Its little-endian 64-bit places are those of the first header of each sample, and the end."""
    data = Folder(index.parent).read(index.name, 8 * (MAX_MEMBERS + 1))
    if len(data) % 8 or len(data) < 8:
        raise TarFault(f"{index.name} is damaged")
    places = np.frombuffer(data, "<u8").tolist()
    starts = {one.offset - BLOCK for one in found}
    if not set(places[:-1]) <= starts or places != sorted(places):
        raise TarFault(f"{index.name} is the index of another tar")

"""An index of shards that others made, which stay as they are.

Tar files in the WebDataset layout: the members of an image share their name up to the first dot of
its last part; the label is in `.cls`, or in `.json` under a usual name. Which shards are of which
split is told by `_info.json` (timm), by Energon's `.nv-meta/split.yaml` not at all, and else by the
names of the files. Indices next to a shard (Energon's `.tar.idx`, webshart's `.json`) are compared
with its headers: one that belongs to another tar is refused. Parquet: `parquet_samples.py`.

The images of a split stand in the index in the order of class and name, wherever they lie: as in
a folder of the same names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.check.check_data import require_good
from vitrail.data.images.decode import decode
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.indexing.index_rows import Found, extents_of, joined
from vitrail.data.indexing.parquet_samples import Columns, columns_of, parquet_samples
from vitrail.data.indexing.shard_making import ShardOptions
from vitrail.data.indexing.tar_samples import Sample, compare_indices, samples_of
from vitrail.data.loading.isolated import each
from vitrail.data.shards.index import IndexRecord, Rows, crc_of, write_index
from vitrail.data.shards.parquet import ParquetStore
from vitrail.data.shards.store import Descriptor, LocalStore, Shard, Store
from vitrail.data.shards.tar import TarFault
from vitrail.data.sources.arrays import class_list
from vitrail.data.sources.class_names import check_names
from vitrail.data.sources.digest import digest_of
from vitrail.data.sources.folder import some
from vitrail.data.sources.many_labels import as_labels, many
from vitrail.data.sources.source import Labels, Readable
from vitrail.data.sources.split_names import split_word
from vitrail.errors import DataError
from vitrail.files import whole_folder
from vitrail.folder import Folder, open_plain
from vitrail.spelling import printable

MAX_INFO_BYTES = 2**26
_LAYOUT = (
    "Expected tar files with members KEY.jpg and KEY.cls (or KEY.json with a label), or Parquet "
    "files with the columns image and label."
)
_PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Part:
    """The images of one split before they are decoded, as a source. labels: class numbers."""

    name: str
    store: Store
    shards: Sequence[Shard]
    samples: Sequence[Sample]
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> tuple[bytes, Any]:
        """The bytes of an image. Raises DataError VIT-333."""
        one = self.samples[index]
        return self.store.read(self.shards[one.shard], one.offset, one.size), 0

    def source_id(self, index: int) -> str:
        """Shard and name."""
        one = self.samples[index]
        return f"{printable(self.shards[one.shard].name)}#{printable(one.name)}"


def index_shards(
    folder: Path,
    out: Path,
    options: ShardOptions,
    *,
    name: str = "",
    only: Sequence[str] = (),
    made: Mapping[str, Any] | None = None,
) -> IndexRecord:
    """Write the index of the shards in `folder` to the folder `out`, which must not exist.

    name: of the data, that of the folder unless given; only: these shards, all unless given; made:
    further facts for the record.

    Raises DataError VIT-301 naming images that cannot be decoded, VIT-332 for a shard that is
    refused, VIT-334 where there is nothing to index or labels are missing.
    """
    names = list(only) or _listed(folder)
    is_parquet = names[0].endswith(".parquet")
    column, told = columns_of(folder, names) if is_parquet else (Columns(), ())
    splits = _splits(folder, names)
    shards: list[Shard] = []
    samples: dict[str, list[Sample]] = {}
    for split in _PARTS:
        for shard in splits.get(split, ()):
            number = len(shards)
            found = (
                parquet_samples(folder / shard, number, column)
                if is_parquet
                else _scanned(folder, shard, number)
            )
            shards.append(_hashed(folder, shard))
            samples.setdefault(split, []).extend(found)
    _make_names_differ(samples, shards)
    if not samples.get("train"):
        raise DataError("VIT-334", f"{folder} has no shards of a training split.", hint=_LAYOUT)
    classes, labels, is_many = _classes(folder, samples, told)
    parts: dict[str, Rows] = {}
    bad: list[tuple[str, str]] = []
    root = str(folder)
    store = ParquetStore(root, column.image) if is_parquet else LocalStore(root)
    for split, own in samples.items():
        part = _sorted(Part(split, store, shards, own, labels[split], classes))
        parts[split], faults = _looked(part, options)
        bad += faults
    if not options.skip_bad:
        require_good(bad, sum(map(len, samples.values())))
    record = IndexRecord(
        name=printable(name or folder.resolve().name),
        classes=classes,
        multi_label=is_many,
        splits=extents_of(parts),
        shards=tuple(shards),
        kind="parquet" if is_parquet else "tar",
        column=column.image,
        root=os.path.relpath(folder.resolve(), out.parent.resolve() / out.name),
        bad=tuple(bad),
        made={"max_pixels": options.max_pixels, **(made or {})},
    )
    with whole_folder(out) as place:
        write_index(place, record, joined([*parts.values()]))
    return record


def _listed(folder: Path) -> list[str]:
    """The shards in a folder and the folders of it, by name. Raises DataError VIT-334, VIT-303."""
    try:
        below = [Path(".")] + sorted(
            Path(one.name) for one in folder.iterdir() if one.is_dir() and one.name[0] != "."
        )
        found = [
            (place / name).as_posix()
            for place in below
            for name in sorted(os.listdir(folder / place))
            if name.endswith((".tar", ".parquet")) and not name.startswith(".")
        ]
        packed = [name for name in os.listdir(folder) if name.endswith((".tar.gz", ".tgz"))]
    except OSError as error:
        raise DataError("VIT-303", f"{folder} cannot be listed: {error.strerror}.") from error
    if not found:
        more = f" {some(packed, 3)}: packed archives have no places to read from." if packed else ""
        raise DataError("VIT-334", f"{folder} holds no shards.{more}", hint=_LAYOUT)
    kinds = {name.rpartition(".")[2] for name in found}
    if len(kinds) > 1:
        raise DataError("VIT-334", f"{folder} holds both tar and Parquet files.", hint=_LAYOUT)
    return found


def _make_names_differ(samples: dict[str, list[Sample]], shards: Sequence[Shard]) -> None:
    """Names that several shards use get the name of the shard in front, all of them."""
    names = [one.name for own in samples.values() for one in own]
    if len(set(names)) < len(names):
        for split, own in samples.items():
            samples[split] = [
                one._replace(name=f"{shards[one.shard].name}/{one.name}") for one in own
            ]


def _splits(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> shards: as `_info.json` says, else by their names; all train where none says so."""
    told = _info(folder)
    found: dict[str, list[str]] = {}
    if told:
        for name in names:
            if part := told.get(name):
                found.setdefault(part, []).append(name)
        return found
    words = {name: _part_of(name) for name in names}
    judged = "val" if "test" in words.values() else "test"
    for name in names:
        part = words[name] or "train"
        found.setdefault(judged if part == "eval" else part, []).append(name)
    return found


def _part_of(name: str) -> str:
    for piece in (Path(name).stem, *Path(name).parts[:-1]):
        if word := split_word(piece):
            return word[0]
    return ""


def _info(folder: Path) -> dict[str, str]:
    """Shard -> split, of timm's _info.json; {} without one. Raises DataError VIT-334."""
    found: dict[str, str] = {}
    document = _document(folder / "_info.json")
    splits = document.get("splits", {}) if isinstance(document, dict) else {}
    for name, own in splits.items() if isinstance(splits, dict) else ():
        word = split_word(str(name))
        files = own.get("filenames", ()) if isinstance(own, dict) else ()
        if word and isinstance(files, list):
            part = "val" if word[0] == "eval" else word[0]
            found |= {str(file): part for file in files}
    return found


def _document(path: Path) -> Any:
    """A JSON file; None where there is none. Raises DataError VIT-334."""
    try:
        return json.loads(Folder(path.parent).read(path.name, MAX_INFO_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("VIT-334", f"{path} cannot be read: {error}.") from error


def _scanned(folder: Path, name: str, number: int) -> list[Sample]:
    """The images of a shard, by its headers. Raises DataError VIT-332, VIT-334."""
    path = folder / name
    try:
        file = Descriptor(str(path))
        found = samples_of(file.number, number)
        compare_indices(path, file.number, _document(path.with_suffix(".json")))
    except TarFault as error:
        raise DataError(
            "VIT-332",
            f"shard {path} is refused: {error}.",
            hint="Make the shard again from plain files; it is read by places and never unpacked.",
        ) from error
    except OSError as error:
        raise DataError("VIT-332", f"shard {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError("VIT-334", f"shard {path}: {error}.", hint=_LAYOUT) from error
    return found


def _hashed(folder: Path, name: str) -> Shard:
    digest, size = hashlib.sha256(), 0
    with os.fdopen(open_plain(folder / name, links=True), "rb") as stream:
        while piece := stream.read(2**22):
            digest.update(piece)
            size += len(piece)
    return Shard(name, size, digest.hexdigest())


def _classes(
    folder: Path, samples: Mapping[str, Sequence[Sample]], told: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, Labels], bool]:
    """Names of the classes that train has; labels of every split. Raises DataError VIT-334, 307."""
    told = told or class_list(str(folder))
    everything = [one for own in samples.values() for one in own]
    is_many = any(isinstance(one.label, tuple) for one in everything)
    wanted = {part: [_names(one.label, told) for one in own] for part, own in samples.items()}
    present = {name for own in wanted["train"] for name in own}
    order = [*told] if told else sorted(present, key=_natural)
    classes = tuple(name for name in order if name in present)
    for part, own in wanted.items():
        if strange := sorted({name for names in own for name in names} - set(classes)):
            raise DataError(
                "VIT-307",
                f"{folder}: the {part} split has classes that train has not: {some(strange)}.",
                hint="Every class needs training images.",
            )
    check_names(classes, str(folder))
    number = {name: place for place, name in enumerate(classes)}
    labels: dict[str, Labels] = {}
    for part, own in wanted.items():
        numbers = [[number[name] for name in names] for names in own]
        labels[part] = (
            as_labels(many(numbers, len(classes)))
            if is_many
            else np.array([one[0] for one in numbers], np.int64)
        )
    return classes, labels, is_many


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, before names."""
    return (0, int(name), "") if name.isdigit() and len(name) < 19 else (1, 0, name)


def _names(label: Any, told: Sequence[str]) -> list[str]:
    """The class names of a label: a number, a name, or several."""
    several = label if isinstance(label, tuple) else (label,)
    found = []
    for one in several:
        text = str(one)
        is_number = text.isdigit() and len(text) < 10
        if told and is_number and int(text) >= len(told):
            raise DataError("VIT-334", f"label {text}, but classes.txt has {len(told)} names.")
        found.append(told[int(text)] if told and is_number else text)
    return found


def _sorted(part: Part) -> Part:
    """In the order of class and name."""
    own = part.labels
    first = own if own.ndim == 1 else own.leading()  # type: ignore[attr-defined]
    keys = [one.name for one in part.samples]
    order = sorted(range(len(keys)), key=lambda i: (int(first[i]), keys[i]))
    samples = [part.samples[i] for i in order]
    return replace(part, samples=samples, labels=own[np.array(order, np.int64)])


def _looked(part: Part, options: ShardOptions) -> tuple[Rows, list[tuple[str, str]]]:
    """Every image decoded: what the index says of the good ones, and the bad."""
    found = Found.room(len(part))
    job = partial(_look, options.max_pixels)
    looks = each(part, job, workers=max(1, options.workers), max_pixels=options.max_pixels)
    for index, (crc, digest, reason) in enumerate(looks):
        one = part.samples[index]
        if reason:
            found.refuse(part.source_id(index), reason)
        else:
            found.take(index, (one.shard, one.offset, one.size, crc), digest)
    names = [one.name for one in part.samples]
    return found.rows(names, part.labels), found.bad


def _look(max_pixels: int, source: Readable, index: int) -> tuple[int, bytes, str]:
    try:
        data, _ = source.read(index)
        assert isinstance(data, bytes)
        decode(data, max_pixels=max_pixels)
        return crc_of(data), digest_of(data), ""
    except DecodeFault as fault:
        return 0, b"", fault.reason
    except MemoryError:
        return 0, b"", "not enough memory to decode it"

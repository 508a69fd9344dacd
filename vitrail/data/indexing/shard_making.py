"""Shards made of a folder or table of images: tar files in the WebDataset layout, and their index.

Every image is decoded once, in processes, so that training needs no look at it; what cannot be
decoded is named and is not in the shards. The images of a split stand in the shards in a drawn
order, those of the index in the order of the data: trained on, the shards give the splits, order,
batches and weights that the folder gives. A member is named by a number, its label is beside it
(`.cls`, or `.json` where there are several); classes.txt and `_info.json` (as timm reads it) are
for other programs.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from vitrail.data.check.check_data import require_good
from vitrail.data.images.decode import MAX_PIXELS, decode
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.image_header import image_format
from vitrail.data.images.rgb import Pixels
from vitrail.data.indexing.index_rows import Found, extents_of, joined
from vitrail.data.loading.isolated import each
from vitrail.data.shards import tar
from vitrail.data.shards.index import IndexRecord, Rows, crc_of, write_index
from vitrail.data.shards.store import Shard
from vitrail.data.sources.digest import digest_of, names_of
from vitrail.data.sources.source import Readable, Source, Splits, subset
from vitrail.errors import DataError
from vitrail.files import whole_folder
from vitrail.keyed_random import permutation
from vitrail.spelling import printable

JPEG_QUALITY = 95
SUFFIXES = {"jpeg": "jpg", "pnm": "ppm"}


@dataclass(frozen=True)
class ShardOptions:
    """How shards are made. short_side: images with a longer one are made smaller, 0 for none;
    skip_bad: go on without images that cannot be decoded.
    """

    shard_bytes: int = 256 * 10**6
    short_side: int = 0
    workers: int = 1
    max_pixels: int = MAX_PIXELS
    skip_bad: bool = False


@dataclass(frozen=True)
class Cooked:
    """An image as it goes into a shard, or what is wrong with it."""

    content: bytes = b""
    digest: bytes = b""
    reason: str = ""


def write_shards(splits: Splits, out: Path, options: ShardOptions) -> IndexRecord:
    """Write `out`, which must not exist: shards, index.dat, details.dat, classes.txt, _info.json.

    Raises DataError VIT-301 naming images that cannot be decoded, VIT-336 for data that is no
    files, UsageError VIT-206, EnvironmentFault VIT-506.
    """
    if splits.kind == "arrays":
        raise DataError(
            "VIT-336",
            f"{splits.name} is arrays in one file, which need no shards.",
            hint="Train on it as it is, or write its images into class folders first.",
        )
    with whole_folder(out) as folder:
        shelf = _Shelf(folder, options.shard_bytes)
        found = {
            part: _write_part(shelf, part, source, options)
            for part, source in splits.parts().items()
        }
        bad = [row for _, own in found.values() for row in own]
        if not options.skip_bad:
            require_good(bad, sum(splits.counts().values()))
        rows = {part: own for part, (own, _) in found.items()}
        record = IndexRecord(
            name=splits.name,
            classes=splits.classes,
            multi_label=splits.multi_label,
            splits=extents_of(rows),
            shards=tuple(shelf.shards),
            notes=splits.notes,
            bad=tuple((printable(name), reason) for name, reason in bad),
            made={"short_side": options.short_side, "max_pixels": options.max_pixels},
        )
        write_index(folder, record, joined(list(rows.values())))
        _write_for_others(folder, record, shelf)
    return record


def _write_part(
    shelf: _Shelf, part: str, source: Source, options: ShardOptions
) -> tuple[Rows, list[tuple[str, str]]]:
    """The shards of one split; what the index says of its images, in their order, and the bad."""
    order = permutation(0, 0, len(source))
    job = partial(_cook, options)
    cooked = each(
        subset(source, order),
        job,
        workers=max(1, options.workers),
        max_pixels=options.max_pixels,
    )
    found = Found.room(len(source))
    with shelf.split(part):
        for index, one in zip(order.tolist(), cooked, strict=True):
            if one.reason:
                found.refuse(source.source_id(index), one.reason)
                continue
            place = shelf.add(f"{index:09d}", one.content, _label_member(source, index))
            found.take(index, place, one.digest)
    return found.rows(names_of(source), source.labels), sorted(found.bad)


def _label_member(source: Source, index: int) -> tuple[str, bytes]:
    """The ending and the content of the member with the label."""
    label = source.labels[index]
    if source.labels.ndim == 1:
        return "cls", str(int(label)).encode()
    return "json", json.dumps({"labels": np.flatnonzero(label).tolist()}).encode()


def _cook(options: ShardOptions, source: Readable, index: int) -> Cooked:
    """Read, decode and, where asked for, make smaller one image."""
    try:
        data, _ = source.read(index)
        assert isinstance(data, bytes)
        pixels = decode(data, max_pixels=options.max_pixels)
        if options.short_side and min(pixels.shape[:2]) > options.short_side:
            data = smaller(pixels, options.short_side, image_format(data))
        return Cooked(data, digest_of(data))
    except DecodeFault as fault:
        return Cooked(reason=fault.reason)
    except MemoryError:
        return Cooked(reason="not enough memory to decode it")


def smaller(pixels: Pixels, short_side: int, kind: str) -> bytes:
    """An image (H, W, 3) encoded with that short side: JPEG of quality 95 where it was one, else
    PNG.
    """
    height, width = pixels.shape[:2]
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    image = Image.fromarray(pixels[:, :, :3]).resize(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    if kind == "jpeg":
        image.save(stream, "JPEG", quality=JPEG_QUALITY)
    else:
        image.save(stream, "PNG")
    return stream.getvalue()


@dataclass
class _Shelf:
    """Shards as they are written, one after another."""

    folder: Path
    shard_bytes: int
    shards: list[Shard] = field(default_factory=list)
    lengths: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # part -> images each
    _part: str = ""
    _file: BinaryIO | None = None
    _hash: Any = None
    _bytes: int = 0
    _images: int = 0

    def split(self, part: str) -> _Open:
        """A block in which images of a split are added: its shards are its own."""
        self._part = part
        self.lengths[part] = []
        return _Open(self._close)

    def add(self, key: str, content: bytes, label: tuple[str, bytes]) -> tuple[int, int, int, int]:
        """Write an image and its label; its place: shard, offset, size, crc32."""
        ending, text = label
        kind = image_format(content)
        need = len(content) + len(text) + 4 * tar.BLOCK
        if self._file is not None and self._bytes + need > self.shard_bytes:
            self._close()
        if self._file is None:
            self._open()
        offset = self._member(f"{key}.{SUFFIXES.get(kind, kind)}", content)
        self._member(f"{key}.{ending}", text)
        self._images += 1
        return len(self.shards), offset, len(content), crc_of(content)

    def _open(self) -> None:
        name = f"{self._part}-{len(self.lengths[self._part]):06d}.tar"
        self._file = (self.folder / name).open("wb")
        self._hash, self._bytes, self._images = hashlib.sha256(), 0, 0
        self.lengths[self._part].append((name, 0))

    def _member(self, name: str, content: bytes) -> int:
        """Where its content begins."""
        self._write(tar.header_of(name, len(content)))
        offset = self._bytes
        self._write(content)
        self._write(tar.padding_of(len(content)))
        return offset

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def _close(self) -> None:
        if self._file is None:
            return
        self._write(tar.END)
        self._file.close()
        self._file = None
        name, _ = self.lengths[self._part][-1]
        self.lengths[self._part][-1] = (name, self._images)
        self.shards.append(Shard(name, self._bytes, self._hash.hexdigest()))


@dataclass(frozen=True)
class _Open:
    """Ends the last shard of a split, whatever happens."""

    close: Callable[[], None]

    def __enter__(self) -> None:
        """Nothing is opened yet."""

    def __exit__(self, *_: object) -> None:
        self.close()


def _write_for_others(folder: Path, record: IndexRecord, shelf: _Shelf) -> None:
    """classes.txt, a name a line, and _info.json as timm's webdataset reader has it."""
    if not any("\n" in name or name != name.strip() for name in record.classes):
        text = "".join(f"{name}\n" for name in record.classes)
        (folder / "classes.txt").write_bytes(text.encode("utf-8", "backslashreplace"))
    info = {
        {"val": "validation"}.get(part, part): {
            "name": part,
            "filenames": [name for name, _ in lengths],
            "shard_lengths": [count for _, count in lengths],
            "num_samples": sum(count for _, count in lengths),
        }
        for part, lengths in shelf.lengths.items()
    }
    (folder / "_info.json").write_bytes(json.dumps({"splits": info}, indent=1).encode())

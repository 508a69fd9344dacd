"""Where images come from: one function opens every kind of DATA.

`open_data` tells the kind by what lies at the path, opens it with the file that owns the kind, and
holds out validation and test images where the data has none (`split.complete`).
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from vitrail.config import DataConfig
from vitrail.data.shards.cached_store import is_url
from vitrail.data.shards.index import INDEX
from vitrail.data.sources.arrays import idx_files, open_idx, open_npz
from vitrail.data.sources.cifar import cifar_kind, open_cifar
from vitrail.data.sources.class_names import check_names, look_alikes
from vitrail.data.sources.digest import equal_firsts, fingerprint
from vitrail.data.sources.digits import HELD_OUT, open_digits
from vitrail.data.sources.folder import lacks, open_folder, some
from vitrail.data.sources.hub_data import HUB, index_folder
from vitrail.data.sources.nested import take
from vitrail.data.sources.shard_source import Cache, open_shards, open_stored
from vitrail.data.sources.source import ArraySource, FileSource, Source, Splits, subset
from vitrail.data.sources.split import Alike, Fraction, complete
from vitrail.data.sources.table import open_table
from vitrail.data.sources.walk import find_images
from vitrail.errors import DataError, nearest
from vitrail.spelling import count, unescaped

__all__ = [
    "ACCEPTED",
    "ArraySource",
    "FileSource",
    "Source",
    "Splits",
    "fingerprint",
    "open_as",
    "open_data",
    "open_whole",
    "read_bytes",
    "subset",
]

HOME = Cache()
ACCEPTED = (
    "Accepted: a folder photos/CLASS/IMAGE, a folder with train/ val/ test/ of class folders, a "
    "CSV path,label[,split], a folder of IDX files (MNIST), a CIFAR folder (binary or python), an "
    ".npz, a folder with an index of shards (vitrail data shard or index), also in a store as "
    "s3://BUCKET/FOLDER, hf:OWNER/NAME after vitrail data get, builtin:digits."
)


def open_data(
    path: str | os.PathLike[str],
    *,
    val_fraction: Fraction = "auto",
    test_fraction: Fraction = "auto",
    seed: int = 0,
    min_classes: int = 2,
    cache: Cache = HOME,
    alike: Alike = equal_firsts,
) -> Splits:
    """The splits of DATA; `val_fraction` is of the training images that the test split leaves.

    min_classes: of class folders; 1 where labels are not looked at. alike: which images are drawn
    together (`split.complete`).
    Raises DataError VIT-302 to VIT-321 for data that cannot be used.
    """
    splits = open_whole(path, min_classes=min_classes, cache=cache)
    automatic = HELD_OUT if os.fspath(path) == "builtin:digits" else None
    return complete(
        splits,
        val=val_fraction,
        test=test_fraction,
        seed=seed,
        automatic=automatic,
        alike=alike,
    )


def open_whole(
    path: str | os.PathLike[str], *, min_classes: int = 2, cache: Cache = HOME
) -> Splits:
    """DATA as it lies there: nothing is held out of it. A path that begins with "escaped:" is one
    that `spelling.escaped` wrote, as a run records it.

    Every kind of data is opened here, so here it is asked whether a model of its classes could be
    saved. Raises what `open_data` raises, VIT-308 where it could not.
    """
    name = _real_name(os.fspath(path))
    splits = open_stored(name, cache) if is_url(name) else _open(name, min_classes)
    check_names(splits.classes, name)
    told = filter(None, (look_alikes(splits.classes), *_absent(splits)))
    return replace(splits, notes=(*splits.notes, *told))


def _absent(splits: Splits) -> list[str]:
    """A sentence for each split of the data's own that has no images of some classes."""
    told = []
    for part, source in (("val", splits.val), ("test", splits.test)):
        if source is not None and not splits.multi_label:
            there = set(np.unique(np.asarray(source.labels)).tolist())
            names = [name for place, name in enumerate(splits.classes) if place not in there]
            told += [lacks(part, names)] if names else []
    return told


def open_as(data: DataConfig, seed: int, *, min_classes: int = 2) -> Splits:
    """The splits that a run with these settings and this seed has, at any time.

    Raises DataError as `open_data` does, VIT-318 for a `split_seed` without effect, UsageError
    VIT-219 for `train_pictures` that there are not.
    """
    splits = open_data(
        data.path,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        seed=seed if data.split_seed is None else data.split_seed,
        min_classes=min_classes,
        cache=Cache(data.cache, data.cache_bytes),
    )
    if data.split_seed is not None and not splits.is_drawn:
        raise DataError(
            "VIT-318",
            f"split seed {data.split_seed} would have no effect: no images of {splits.name} are "
            "held out at random.",
            hint="Leave out --data.split-seed.",
        )
    return splits if data.train_pictures is None else take(splits, data.train_pictures, seed)


def read_bytes(source: FileSource, index: int) -> bytes:
    """The bytes of one image file. Raises DecodeFault (VIT-330) where it cannot be read."""
    return source.read(index)[0]


def _real_name(path: str) -> str:
    """The path that `spelling.escaped` wrote, as settings and records hold one that is no text."""
    try:
        return unescaped(path)
    except ValueError as error:
        raise DataError("VIT-303", f"data {path}: {error}.", hint=ACCEPTED) from error


def _open(path: str, min_classes: int) -> Splits:
    if path.startswith("builtin:"):
        if path != "builtin:digits":
            raise DataError("VIT-303", f"unknown data {path}. {nearest(path, ['builtin:digits'])}")
        return open_digits()
    if path.startswith(HUB):
        return open_shards(index_folder(path))
    if os.path.isdir(path):
        if os.path.lexists(os.path.join(path, INDEX)):
            return open_shards(path)
        return _open_folder(path, min_classes)
    if os.path.isfile(path):
        if os.path.basename(path) == INDEX:
            return open_shards(os.path.dirname(path) or ".")
        return _open_file(path)
    if path.startswith(("http:", "https:", "google:")):
        raise DataError("VIT-303", f"data cannot be fetched from {path}.", hint=ACCEPTED)
    raise DataError("VIT-303", f"data {path} does not exist.", hint=ACCEPTED)


def _open_folder(path: str, min_classes: int) -> Splits:
    if kind := cifar_kind(path):
        return _with_neighbours(path, f"the files of {kind}", open_cifar(path))
    if idx_files(path):
        return _with_neighbours(path, "the IDX files", open_idx(path))
    try:
        return open_folder(path, min_classes=min_classes)
    except DataError as error:
        shards = [name for name in os.listdir(path) if name.endswith((".tar", ".parquet"))]
        if error.code != "VIT-305" or not shards:
            raise
        raise DataError(
            "VIT-305",
            f"{path} holds shards ({some(sorted(shards), 3)}) and no index of them.",
            hint=f"Make one: vitrail data index {path} --out IDX, then use IDX",
        ) from error


def _with_neighbours(path: str, used: str, splits: Splits) -> Splits:
    """The splits, with a note of images that lie next to the array files that were taken."""
    images = find_images(path).paths
    if not images:
        return splits
    note = f"{count(len(images), 'image')} next to {used} not used ({some(images, 3)})."
    return replace(splits, notes=(*splits.notes, note))


def _open_file(path: str) -> Splits:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return open_table(path)
    if suffix == ".npz":
        return open_npz(path)
    raise DataError("VIT-303", f"{path} is no data set that can be opened.", hint=ACCEPTED)

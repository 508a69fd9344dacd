"""Images in array files: IDX (the format of MNIST) and .npz.

IDX: two zero bytes, a type byte (8: unsigned byte), the number of dimensions, big-endian sizes,
data (http://yann.lecun.com/exdb/mnist, "file formats"). Sizes are checked before anything large is
read, also inside .gz and .npz files.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.rgb import Pixels
from vitrail.data.sources.folder import class_name, some
from vitrail.data.sources.source import ArraySource, Labels, Splits
from vitrail.errors import DataError
from vitrail.folder import Folder
from vitrail.spelling import count, printable
from vitrail.unpacking import ZIP_FAULTS, TooTight, open_plain_or_gzip, open_zip

MAX_BYTES = 8 * 2**30  # of one array
MAX_NAMES_BYTES = 2**24  # of a file of class names
TIGHT_HINT = "Images do not pack so tight. If they are really all alike, store them unpacked."
_IDX_NAME = re.compile(
    r"(train|t10k|test|val|valid|validation)-(images|labels)[-.]idx[134]-ubyte(\.gz)?"
)
_IDX_PARTS = {"train": "train", "t10k": "test", "test": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)
_NPZ_KEYS = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")),
    "val": (("val_images", "val_labels"), ("x_val", "y_val")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}
_NPZ_EXPECTED = (
    "Expected images and labels, or x_train y_train [x_test y_test], or train_images train_labels "
    "[val_images val_labels] [test_images test_labels]"
)


def idx_files(folder: str) -> dict[str, dict[str, str]]:
    """Split -> {"images": path, "labels": path} of the IDX files in `folder`; plain before .gz."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(os.listdir(folder), reverse=True):
        if match := _IDX_NAME.fullmatch(name):
            part = _IDX_PARTS[match[1]]
            found.setdefault(part, {})[match[2]] = os.path.join(folder, name)
    return found


def open_idx(folder: str) -> Splits:
    """The splits of a folder with IDX files. Raises DataError VIT-314, 315."""
    parts = {}
    for part, files in idx_files(folder).items():
        if set(files) != {"images", "labels"}:
            lacking = ({"images", "labels"} - set(files)).pop()
            raise DataError(
                "VIT-314", f"{folder} has no {part} {lacking} beside {some([*files.values()])}."
            )
        images, labels = read_idx(files["images"]), read_idx(files["labels"])
        if images.ndim not in (3, 4) or labels.ndim != 1:
            raise DataError(
                "VIT-314",
                f"{files['images']}: expected images (n, H, W) and labels (n,), got "
                f"{images.shape} and {labels.shape}.",
            )
        stem = os.path.basename(files["images"]).partition("-images")[0]
        parts[part] = (images, labels, f"{stem}-images")
    return array_splits(printable(Path(folder).resolve().name), folder, parts, class_list(folder))


def read_idx(path: str) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, plain or .gz. Raises DataError VIT-314."""
    try:
        with open_plain_or_gzip(path) as file:
            zeros, kind, num_dims = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != 8 or not 1 <= num_dims <= 4:
                raise DataError(
                    "VIT-314",
                    f"{path}: is no IDX file of bytes: magic {zeros:04x}{kind:02x}{num_dims:02x}, "
                    "expected 000008 and the number of dimensions, 1 to 4.",
                )
            shape = struct.unpack(f">{num_dims}I", file.read(4 * num_dims))
            size = math.prod(shape)
            check_bytes(path, shape, size)
            data = file.read(size + 1)
    except TooTight as error:
        raise DataError("VIT-320", f"{path}: {error}.", hint=TIGHT_HINT) from error
    except (struct.error, EOFError) as error:
        raise DataError("VIT-314", f"{path}: truncated file (its end is missing).") from error
    except (OSError, zlib.error) as error:
        raise DataError("VIT-314", f"{path}: cannot be read: {error}.") from error
    if len(data) != size:
        what = "truncated file" if len(data) < size else "file with trailing bytes"
        got = f"{len(data)}" if len(data) < size else f"more than {size}"
        raise DataError("VIT-314", f"{path}: {what} ({got} of {size} bytes for shape {shape}).")
    return np.frombuffer(data, np.uint8).reshape(shape)


def open_npz(path: str) -> Splits:
    """The splits of an .npz file. Raises DataError VIT-315, 317, 320."""
    try:
        with open_zip(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            keys = _npz_keys(path, set(members))
            parts = {}
            for part, (images_key, labels_key) in keys.items():
                images = _read_member(path, archive, members[images_key])
                labels = _read_member(path, archive, members[labels_key])
                parts[part] = (_check_images(path, images_key, images), labels, images_key)
            names = _npz_classes(path, archive, members)
            used = {"classes", *(key for pair in keys.values() for key in pair)}
    except TooTight as error:
        raise DataError("VIT-320", f"{path}: {error}.", hint=TIGHT_HINT) from error
    except ZIP_FAULTS as error:
        raise DataError("VIT-317", f"{path}: is no usable .npz file: {error}.") from error
    splits = array_splits(printable(Path(path).stem), path, parts, names)
    unused = sorted(set(members) - used)
    note = (f"arrays that are not used: {some(unused)}.",) if unused else ()
    return replace(splits, notes=(*splits.notes, *note))


def array_splits(
    name: str,
    path: str,
    parts: dict[str, tuple[Pixels, NDArray[Any], str]],
    names: tuple[str, ...] = (),
) -> Splits:
    """Splits of (images, labels, part name) for each part; `names` are class names by number.

    Numbers without a training image are no classes; the others keep their order.
    """
    if "train" not in parts:
        raise DataError("VIT-307", f"{path} has no training images, only {some([*parts])}.")
    shapes = {images.shape[3:] or (1,) for images, _, _ in parts.values()}
    if len(shapes) > 1:
        raise DataError("VIT-317", f"{path}: the splits have different channels: {sorted(shapes)}.")
    checked = {}
    for part, (images, labels, label) in parts.items():
        labels = _check_labels(path, label, images, labels)
        shaped = images if images.ndim == 4 else images[:, :, :, None]  # (n, H, W, C)
        if shaped.shape[3] not in (1, 3) or 0 in shaped.shape:
            raise DataError(
                "VIT-317",
                f"{path}: {label} has shape {images.shape}; expected (n, H, W), "
                "(n, H, W, 1) or (n, H, W, 3), none of them 0.",
            )
        checked[part] = (shaped, labels, label)
    notes: tuple[str, ...] = ()
    if _one_hot({part: row[1] for part, row in checked.items()}):
        notes = ("labels have one 1 in each row: read as one class an image.",)
        names = names or tuple(str(number) for number in range(checked["train"][1].shape[1]))
        checked = {part: (row[0], row[1].argmax(1), row[2]) for part, row in checked.items()}
    multi_label = checked["train"][1].ndim == 2
    if all(row[0].max() <= 1 for row in checked.values()):
        notes += ("no pixel is above 1 of 255: the images are almost black (were they 0 to 1?).",)
    if multi_label:
        classes = _multi_label_names(path, [labels for _, labels, _ in checked.values()], names)
        numbers = np.arange(0)
    else:
        numbers, classes = _present(path, {part: row[1] for part, row in checked.items()}, names)
        there = set(numbers.tolist())
        absent = [name for place, name in enumerate(names) if place not in there]
        notes += (f"no training images, so no classes: {some(absent)}.",) if absent else ()
    sources = {
        part: ArraySource(
            f"{path}:{part}",
            classes,
            labels.astype(np.float32) if multi_label else np.searchsorted(numbers, labels),
            images,
            label,
        )
        for part, (images, labels, label) in checked.items()
    }
    return Splits(
        name=name,
        classes=classes,
        train=sources["train"],
        val=sources.get("val"),
        test=sources.get("test"),
        how="",
        kind="arrays",
        multi_label=multi_label,
        notes=notes,
    )


def class_list(folder: str, files: tuple[str, ...] = ("classes.txt",)) -> tuple[str, ...]:
    """Class names by number from the first of `files` there is, one a line; () without one."""
    for name in files:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            try:
                content = Folder(Path(folder)).read(name, MAX_NAMES_BYTES)
                lines = content.decode("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise DataError("VIT-308", f"{path}: class names cannot be read: {why}.") from error
            names = tuple(class_name(line.strip(), path) for line in lines if line.strip())
            if len(set(names)) < len(names):
                raise DataError("VIT-308", f"{path}: a class name appears twice.")
            return names
    return ()


def check_bytes(path: str, shape: tuple[int, ...], size: int) -> None:
    """Raises DataError VIT-320 for arrays that are too large to be read whole."""
    if size > MAX_BYTES:
        raise DataError(
            "VIT-320",
            f"{path}: array {shape} of {size} bytes; limit {MAX_BYTES}.",
            hint="Store the images as files: photos/CLASS/IMAGE.",
        )


def _npz_keys(path: str, present: set[str]) -> dict[str, tuple[str, str]]:
    keys = {}
    for part, pairs in _NPZ_KEYS.items():
        for pair in pairs:
            if set(pair) <= present:
                keys[part] = pair
                break
    if "train" not in keys:
        raise DataError("VIT-317", f"{path}: {_NPZ_EXPECTED}; got {some(sorted(present))}.")
    return keys


def _read_member(path: str, archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """One array; its declared shape is compared with the size in the zip header before reading."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"{member} has the .npy version {version}")
        shape, _, dtype = readers[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member} holds Python objects; numbers are accepted")
        size = math.prod(shape) * dtype.itemsize
        check_bytes(f"{path} {member}", shape, size)
        declared = archive.getinfo(member).file_size
        if size + 10 > declared:
            raise ValueError(
                f"{member} claims shape {shape}, {size} bytes; the file has {declared}"
            )
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _npz_classes(path: str, archive: zipfile.ZipFile, members: dict[str, str]) -> tuple[str, ...]:
    if "classes" not in members:
        return ()
    names = _read_member(path, archive, members["classes"])
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise ValueError(
            f"classes must be a list of names, got {names.dtype} of shape {names.shape}"
        )
    return tuple(class_name(str(name), path) for name in names.astype(str))


def _check_images(path: str, key: str, images: NDArray[Any]) -> Pixels:
    if images.dtype != np.uint8:
        raise DataError(
            "VIT-317",
            f"{path}: {key} has type {images.dtype}; expected uint8, 0 to 255.",
            hint=_way_to_bytes(images),
        )
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        raise DataError(
            "VIT-317",
            f"{path}: {key} has shape {images.shape}, channels first; expected (n, H, W, C).",
            hint="Reorder: images.transpose(0, 2, 3, 1).",
        )
    if images.ndim not in (3, 4):
        raise DataError(
            "VIT-317", f"{path}: {key} has shape {images.shape}; expected (n, H, W[, C])."
        )
    return images


def _way_to_bytes(images: NDArray[Any]) -> str:
    """How pixels of another type become bytes, by the range that they have."""
    if images.dtype.kind not in "biuf" or not images.size or not np.isfinite(images).all():
        return "Pixels are finite numbers: correct them, then scale them to 0..255."
    low, high = float(images.min()), float(images.max())
    if low < 0:
        way = "((images - images.min()) / (images.max() - images.min()) * 255).round()"
        way = "((images + 1) * 127.5).round()" if low >= -1 and high <= 1 else way
    elif high > 255:
        is_full = images.dtype == np.uint16 and high > 32_767
        way = "(images // 257)" if is_full else "(images / images.max() * 255).round()"
    else:
        way = "(images * 255).round()" if high <= 1 else "images.round()"
    return f"They are {low:g} to {high:g}. Scale and convert: {way}.astype('uint8')."


def _one_hot(labels: Mapping[str, Labels]) -> bool:
    """Whether every row of every table has one 1, as no data of several labels an image has."""
    return all(own.ndim == 2 and (own.sum(1) == 1).all() for own in labels.values())


def _check_labels(path: str, part: str, images: Pixels, labels: NDArray[Any]) -> Labels:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "biuf":
        raise DataError(
            "VIT-317",
            f"{path}: labels of {part} are {labels.dtype} of shape {labels.shape}; "
            "expected whole numbers (n,), or 0 and 1 (n, classes).",
        )
    if len(labels) != len(images):
        raise DataError(
            "VIT-315", f"{path}: {len(images)} {part} but {count(len(labels), 'label')}."
        )
    whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels) or whole.min(initial=0) < 0:
        raise DataError("VIT-315", f"{path}: labels of {part} must be whole numbers from 0.")
    if labels.ndim == 2 and whole.max(initial=0) > 1:
        raise DataError("VIT-315", f"{path}: label table of {part} must hold 0 and 1.")
    return whole


def _present(
    path: str, labels: dict[str, Labels], names: tuple[str, ...]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The label numbers that train has, sorted, and their names."""
    numbers = np.unique(labels["train"])
    for part, own in labels.items():
        if len(strange := np.setdiff1d(own, numbers)):
            raise DataError(
                "VIT-307",
                f"{path}: the {part} split has classes that train has not: "
                f"{some([str(number) for number in strange])}.",
                hint="Every class needs training images.",
            )
    if names and numbers[-1] >= len(names):
        raise DataError(
            "VIT-315", f"{path}: label {numbers[-1]}, but only {count(len(names), 'class name')}."
        )
    if len(numbers) < 2:
        raise DataError("VIT-304", f"{path} has only one class. Expected two classes or more.")
    return numbers, tuple(names[number] if names else str(number) for number in numbers)


def _multi_label_names(path: str, labels: list[Labels], names: tuple[str, ...]) -> tuple[str, ...]:
    widths = {own.shape[1:] for own in labels}
    if len(widths) > 1 or (names and widths != {(len(names),)}):
        raise DataError("VIT-315", f"{path}: label tables of different widths: {sorted(widths)}.")
    return names or tuple(str(number) for number in range(labels[0].shape[1]))

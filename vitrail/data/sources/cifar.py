"""CIFAR-10 and CIFAR-100 folders, binary or python version.

Formats: https://www.cs.toronto.edu/~kriz/cifar.html. An image is 3072 bytes, the planes red, green
and blue of 32 x 32 px; before it stands one label byte (CIFAR-100: coarse, then fine; fine is
used). The python version is read by `system/pickle_sandbox.py`, in a process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.rgb import Pixels
from vitrail.data.sources.arrays import array_splits, class_list
from vitrail.data.sources.folder import class_name
from vitrail.data.sources.source import Splits
from vitrail.errors import DataError
from vitrail.spelling import count, printable
from vitrail.system.pickle_process import PickleRefused, ask

_PLANE_BYTES = 3072
_MAX_FILE_BYTES = 512 * 2**20
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
# kind -> train files, test file, label bytes of a binary record, files with class names
_LAYOUTS: dict[str, tuple[tuple[str, ...], str, int, tuple[str, ...]]] = {
    "cifar10-binary": (
        tuple(f"{name}.bin" for name in _BATCHES),
        "test_batch.bin",
        1,
        ("batches.meta.txt",),
    ),
    "cifar100-binary": (("train.bin",), "test.bin", 2, ("fine_label_names.txt",)),
    "cifar10-python": (_BATCHES, "test_batch", 0, ("batches.meta",)),
    "cifar100-python": (("train",), "test", 0, ("meta",)),
}


def cifar_kind(folder: str) -> str:
    """Which version of CIFAR lies in `folder`; "" where it is none."""
    for kind, (train, _, _, names) in _LAYOUTS.items():
        files = [os.path.join(folder, name) for name in train]
        if kind == "cifar100-python":  # "train" alone may be anything
            files.append(os.path.join(folder, names[0]))
            if all(os.path.isfile(file) for file in files):
                return kind
        elif any(os.path.isfile(file) for file in files):
            return kind
    return ""


def open_cifar(folder: str) -> Splits:
    """The splits of a CIFAR folder. Raises DataError VIT-316, 319."""
    kind = cifar_kind(folder)
    train, test, num_label_bytes, name_files = _LAYOUTS[kind]
    missing = [name for name in train if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        raise DataError("VIT-316", f"{folder} lacks {', '.join(missing)} of {kind}.")
    names = (
        class_list(folder, name_files) if num_label_bytes else _python_names(folder, name_files[0])
    )
    parts = {"train": _join(folder, train, num_label_bytes)}
    if os.path.isfile(os.path.join(folder, test)):
        parts["test"] = _join(folder, (test,), num_label_bytes)
    labelled = {part: (images, labels, part) for part, (images, labels) in parts.items()}
    return array_splits(printable(Path(folder).resolve().name), folder, labelled, names)


def _join(folder: str, files: tuple[str, ...], num_label_bytes: int) -> tuple[Pixels, NDArray[Any]]:
    batches = [_read(os.path.join(folder, name), num_label_bytes) for name in files]
    planes = np.concatenate([planes for planes, _ in batches]).reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))  # (n, 32, 32, 3)
    return images, np.concatenate([labels for _, labels in batches])


def _read(path: str, num_label_bytes: int) -> tuple[Pixels, NDArray[Any]]:
    """Planes uint8 (n, 3072) and labels (n,) of one batch."""
    if not num_label_bytes:
        return _python_batch(path, _python_values(path))
    data = _bytes(path)
    record = _PLANE_BYTES + num_label_bytes
    if not data or len(data) % record:
        raise DataError(
            "VIT-316",
            f"{path}: {len(data)} bytes are no whole number of records of {record} bytes; "
            "the file is truncated or of another kind.",
        )
    table = np.frombuffer(data, np.uint8).reshape(-1, record)
    return table[:, num_label_bytes:], table[:, num_label_bytes - 1].astype(np.int64)


def load_batch(source: int | bytes, name: str = "python batch") -> dict[str, Any]:
    """Arrays and lists of a python batch: data, labels, fine_labels, label_names, fine_label_names,
    as far as it has them. source: bytes, or the descriptor of a file.

    Raises DataError VIT-319 where it asks for more than arrays and lists or is damaged,
    EnvironmentFault VIT-529.
    """
    try:
        answer, rest = ask(name, "batch", source=source)
        values: dict[str, Any] = answer["values"]
        for key, value in values.items():
            if len(value) == 4 and isinstance(value[1], list):
                code, shape, order, size = value
                values[key] = np.frombuffer(rest[:size], np.dtype(code)).reshape(shape, order=order)
                rest = rest[size:]
        return values
    except (PickleRefused, ValueError, TypeError) as error:
        raise DataError(
            "VIT-319",
            f"{name} is refused: {error}. Expected a dict of numbers, strings and numpy arrays.",
            hint="Use the binary version of the data set.",
        ) from error


def _python_values(path: str) -> dict[str, Any]:
    with _opened(path) as file:
        return load_batch(file.fileno(), f"python batch {path}")


def _python_batch(path: str, values: dict[str, Any]) -> tuple[Pixels, NDArray[Any]]:
    planes: Any = values.get("data")
    labels: Any = values.get("labels", values.get("fine_labels"))
    is_pixels = isinstance(planes, np.ndarray) and planes.dtype == np.uint8 and planes.ndim == 2
    if (
        not is_pixels
        or planes.shape[1] != _PLANE_BYTES
        or not isinstance(labels, list | np.ndarray)
    ):
        raise DataError("VIT-316", f"{path}: expected data uint8 (n, {_PLANE_BYTES}) and labels.")
    try:
        numbers = np.array([int(label) for label in labels], dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("VIT-316", f"{path}: labels must be whole numbers: {error}.") from error
    if len(numbers) != len(planes):
        raise DataError(
            "VIT-315", f"{path}: {count(len(planes), 'image')} but {count(len(numbers), 'label')}."
        )
    return planes, numbers


def _python_names(folder: str, name: str) -> tuple[str, ...]:
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return ()
    meta = _python_values(path)
    names = meta.get("label_names") or meta.get("fine_label_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("VIT-316", f"{path}: expected label_names, a list of class names.")
    return tuple(class_name(name, path) for name in names)


def _bytes(path: str) -> bytes:
    with _opened(path) as file:
        return file.read()


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        if os.path.getsize(path) > _MAX_FILE_BYTES:
            raise DataError("VIT-320", f"{path}: more than {_MAX_FILE_BYTES} bytes.")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise DataError("VIT-316", f"{path} cannot be read: {error.strerror}.") from error

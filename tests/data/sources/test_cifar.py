"""CIFAR folders: binary and python versions give the same images."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.data.sources.cifar import cifar_kind
from vitrail.data.sources.open_data import ArraySource, open_data
from vitrail.errors import DataError

NAMES = ("airplane", "bird", "cat")


def batch(seed: int, number: int = 6) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Planes (n, 3072) and labels (n,)."""
    planes = np.random.default_rng(seed).integers(0, 256, (number, 3072), dtype=np.uint8)
    return planes, (np.arange(number) % 3).astype(np.uint8)


def write_binary10(folder: Path) -> None:
    for k in range(1, 7):
        planes, labels = batch(k)
        name = f"data_batch_{k}.bin" if k < 6 else "test_batch.bin"
        (folder / name).write_bytes(np.concatenate([labels[:, None], planes], axis=1).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")


def write_python10(folder: Path, keys: Any = str) -> None:
    for k in range(1, 7):
        planes, labels = batch(k)
        value = {
            keys("data"): planes,
            keys("labels"): labels.tolist(),
            keys("filenames"): ["a"] * 6,
        }
        name = f"data_batch_{k}" if k < 6 else "test_batch"
        (folder / name).write_bytes(pickle.dumps(value, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({keys("label_names"): list(NAMES)}, 2))


def write_binary100(folder: Path) -> None:
    for k, name in enumerate(["train.bin", "test.bin"]):
        planes, labels = batch(k)
        coarse = np.full((6, 1), 9, np.uint8)
        table = np.concatenate([coarse, labels[:, None], planes], axis=1)
        (folder / name).write_bytes(table.tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES))


def write_python100(folder: Path) -> None:
    for k, name in enumerate(["train", "test"]):
        planes, labels = batch(k)
        value = {b"data": planes, b"fine_labels": labels.tolist(), b"coarse_labels": [9] * 6}
        (folder / name).write_bytes(pickle.dumps(value, 2))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": list(NAMES)}, 2))


@pytest.mark.parametrize(
    ("write", "kind", "first", "number"),
    [
        (write_binary10, "cifar10-binary", 1, 30),
        (write_python10, "cifar10-python", 1, 30),
        (lambda folder: write_python10(folder, str.encode), "cifar10-python", 1, 30),
        (write_binary100, "cifar100-binary", 0, 6),
        (write_python100, "cifar100-python", 0, 6),
    ],
)
def test_versions(tmp_path: Path, write: Any, kind: str, first: int, number: int) -> None:
    write(tmp_path)
    assert cifar_kind(str(tmp_path)) == kind
    splits = open_data(tmp_path, val_fraction=0)
    assert splits.classes == NAMES
    assert (len(splits.train), len(splits.parts()["test"])) == (number, 6)
    assert isinstance(splits.train, ArraySource)
    planes, labels = batch(first)
    image = splits.train.images[4]  # (32, 32, 3)
    assert image.shape == (32, 32, 3)
    for channel in range(3):
        plane = planes[4, 1024 * channel : 1024 * (channel + 1)].reshape(32, 32)
        assert np.array_equal(image[:, :, channel], plane)
    assert splits.train.labels[:6].tolist() == labels.tolist()
    assert splits.train.source_id(7) == "train:7" if number > 7 else True


def test_damage_is_named(tmp_path: Path) -> None:
    write_binary10(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    good = path.read_bytes()
    path.write_bytes(good[:-5])
    with pytest.raises(DataError, match="no whole number of records of 3073 bytes") as caught:
        open_data(tmp_path)
    assert caught.value.code == "VIT-316"
    path.unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_3\.bin"):
        open_data(tmp_path)
    path.write_bytes(bytes([200]) + good[1:])
    with pytest.raises(DataError, match="label 200, but only 3 class names"):
        open_data(tmp_path)


@pytest.mark.promise("M1")
def test_python_batches_cannot_run_code(tmp_path: Path) -> None:
    write_python10(tmp_path)
    canary = tmp_path / "canary"
    attack = b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    (tmp_path / "data_batch_2").write_bytes(attack)
    with pytest.raises(DataError, match=r"posix\.system") as caught:
        open_data(tmp_path)
    assert caught.value.code == "VIT-319"
    assert not canary.exists()


PIXELS = np.zeros((6, 3072), np.uint8)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([1, 2], "VIT-319"),
        ({"data": PIXELS, "labels": [[0]] * 6}, "VIT-319"),
        ({}, "VIT-316"),
        ({"data": PIXELS}, "VIT-316"),
        ({"data": PIXELS[:, :9], "labels": []}, "VIT-316"),
        ({"data": PIXELS / 1.0, "labels": [0] * 6}, "VIT-316"),
        ({"data": PIXELS, "labels": "abc"}, "VIT-316"),
        ({"data": PIXELS, "labels": ["x"] * 6}, "VIT-316"),
        ({"data": PIXELS, "labels": [0] * 5}, "VIT-315"),
    ],
)
def test_python_batches_with_other_content(tmp_path: Path, value: object, code: str) -> None:
    write_python10(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(DataError) as caught:
        open_data(tmp_path)
    assert caught.value.code == code
    assert "data_batch_2" in str(caught.value)


def test_without_a_test_batch_a_test_split_is_held_out(tmp_path: Path) -> None:
    write_binary10(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    splits = open_data(tmp_path)
    assert splits.test is not None
    assert splits.val is not None
    assert len(splits.train) + len(splits.val) + len(splits.test) == 30

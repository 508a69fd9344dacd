"""IDX and npz: what is read, and that a file lying about its size costs nothing."""

from __future__ import annotations

import gzip
import io
import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.odd_images import noise
from vitrail.data.sources import arrays as module
from vitrail.data.sources.arrays import read_idx
from vitrail.data.sources.open_data import ArraySource, Splits, open_data
from vitrail.errors import DataError

WHOLE: dict[str, Any] = {"val_fraction": 0, "test_fraction": 0}


def idx(array: NDArray[np.uint8]) -> bytes:
    """The bytes of an IDX file."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def pictures(number: int, seed: int = 0, channels: int = 0) -> NDArray[np.uint8]:
    """Random (n, 5, 7) or (n, 5, 7, C)."""
    shape = (number, 5, 7, channels) if channels else (number, 5, 7)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(number: int, classes: int = 3) -> NDArray[np.uint8]:
    return (np.arange(number) % classes).astype(np.uint8)


def write_mnist(folder: Path, names: dict[str, str], compress: bool) -> None:
    for part, (stem, number) in {"train": ("train", 30), "test": (names["test"], 9)}.items():
        for kind, array in {"images": pictures(number), "labels": labels(number)}.items():
            data = idx(array)
            name = f"{stem}-{kind}{names['dash']}idx{array.ndim}-ubyte"
            path = folder / (f"{name}.gz" if compress else name)
            path.write_bytes(gzip.compress(data) if compress else data)
        assert part


def images_of(source: object) -> NDArray[np.uint8]:
    assert isinstance(source, ArraySource)
    return source.images


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("names", [{"test": "t10k", "dash": "-"}, {"test": "test", "dash": "."}])
def test_idx_folder(tmp_path: Path, compress: bool, names: dict[str, str]) -> None:
    write_mnist(tmp_path, names, compress)
    splits = open_data(tmp_path, val_fraction=0)
    assert np.array_equal(images_of(splits.train)[..., 0], pictures(30))
    assert np.array_equal(images_of(splits.test)[..., 0], pictures(9))
    assert splits.train.labels.tolist() == labels(30).tolist()
    assert splits.classes == ("0", "1", "2")
    assert splits.train.source_id(17) == "train-images:17"
    assert splits.test is not None
    assert splits.test.source_id(3) == f"{names['test']}-images:3"
    pixels, label = splits.train.read(4)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (5, 7, 1)
    assert label == 1
    assert splits.kind == "arrays"


def test_class_names_from_a_list(tmp_path: Path) -> None:
    write_mnist(tmp_path, {"test": "t10k", "dash": "-"}, False)
    (tmp_path / "classes.txt").write_text("shirt\nbag\nboot\n", encoding="utf-8")
    assert open_data(tmp_path).classes == ("shirt", "bag", "boot")  # by number, not by name
    (tmp_path / "classes.txt").write_text("shirt\nbag\n", encoding="utf-8")
    with pytest.raises(DataError, match="label 2, but only 2 class names"):
        open_data(tmp_path)


def test_idx_with_colour_and_a_gap_in_the_labels(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx4-ubyte").write_bytes(idx(pictures(6, channels=3)))
    marks = np.array([1, 5, 1, 5, 1, 5], np.uint8)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(marks))
    splits = open_data(tmp_path, **WHOLE)
    assert splits.classes == ("1", "5")
    assert splits.train.labels.tolist() == [0, 1] * 3
    assert np.array_equal(images_of(splits.train), pictures(6, channels=3))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damaged_idx_files_are_named(tmp_path: Path, suffix: str) -> None:
    good = idx(pictures(6))
    cases = {
        good[:100]: "truncated file (84 of 210 bytes for shape (6, 5, 7))",
        good[:7]: "truncated file",
        b"": "truncated file",
        good + b"x": "trailing bytes",
        b"\0\0\x0d" + good[3:]: "is no IDX file of bytes",
        b"PNG" + good: "is no IDX file",
        bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**20, 2**20): "limit",
    }
    for data, words in cases.items():
        path = tmp_path / f"x{suffix}"
        path.write_bytes(gzip.compress(data) if suffix else data)
        with pytest.raises(DataError) as caught:
            read_idx(str(path))
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert caught.value.code in ("VIT-314", "VIT-320")


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    data = gzip.compress(idx(pictures(60)))
    for broken in (data[: len(data) // 2], data[:-8] + bytes(8), b"not gzip at all"):
        path.write_bytes(broken)
        with pytest.raises(DataError) as caught:
            read_idx(str(path))
        assert caught.value.code == "VIT-314"


def test_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(60_000_000), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="trailing bytes"):
        read_idx(str(path))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    path.write_bytes(gzip.compress(idx(pictures(6))))
    with pytest.raises(DataError, match="limit 100") as caught:
        read_idx(str(path))
    assert caught.value.code == "VIT-320"


def test_idx_folder_that_does_not_fit_together(tmp_path: Path) -> None:
    images, marks = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    images.write_bytes(idx(pictures(6)))
    with pytest.raises(DataError, match="has no train labels"):
        open_data(tmp_path)
    marks.write_bytes(idx(labels(5)))
    with pytest.raises(DataError, match="6 train-images but 5 labels") as caught:
        open_data(tmp_path)
    assert caught.value.code == "VIT-315"
    marks.write_bytes(idx(np.zeros(6, np.uint8)))
    with pytest.raises(DataError, match="only one class"):
        open_data(tmp_path)
    marks.write_bytes(idx(labels(6)))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(pictures(2)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([0, 7], np.uint8)))
    with pytest.raises(DataError, match="test split has classes that train has not: 7"):
        open_data(tmp_path)


def npz(path: Path, **content: Any) -> Splits:
    np.savez_compressed(path, **content)
    return open_data(path, **WHOLE)


@pytest.mark.parametrize(
    "keys",
    [
        {"train": ("images", "labels")},
        {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
        {
            "train": ("train_images", "train_labels"),
            "val": ("val_images", "val_labels"),
            "test": ("test_images", "test_labels"),
        },
    ],
)
def test_npz_key_variants(tmp_path: Path, keys: dict[str, tuple[str, str]]) -> None:
    content: dict[str, Any] = {}
    for place, (images_key, labels_key) in enumerate(keys.values()):
        content[images_key] = pictures(6, seed=place, channels=3)
        content[labels_key] = labels(6)[:, None].astype(np.int64)  # (n, 1), as Keras has them
    np.savez(tmp_path / "x.npz", **content)
    splits = open_data(tmp_path / "x.npz", **({} if len(keys) > 1 else WHOLE))
    assert set(keys) <= set(splits.parts())
    for place, (part, (images_key, _)) in enumerate(keys.items()):
        source = splits.parts()[part]
        if part != "train" or len(keys) != 2:
            assert np.array_equal(images_of(source), pictures(6, seed=place, channels=3))
        assert source.source_id(2).startswith(f"{images_key}:")


def test_npz_with_class_names_and_with_label_tables(tmp_path: Path) -> None:
    names = np.array(["ox", "ant", "bee"])
    splits = npz(tmp_path / "a.npz", images=pictures(6), labels=labels(6), classes=names)
    assert splits.classes == ("ox", "ant", "bee")
    table = np.array([[1, 0], [1, 1], [0, 0]])
    splits = npz(tmp_path / "b.npz", images=pictures(3), labels=table)
    assert splits.multi_label
    assert splits.train.labels.dtype == np.float32
    assert splits.train.labels.tolist() == table.tolist()


def test_npz_mistakes_are_named(tmp_path: Path) -> None:
    good = {"images": pictures(6), "labels": labels(6)}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"x": pictures(6)}, "VIT-317", "Expected images and labels"),
        (good | {"images": pictures(6) / 255}, "VIT-317", "type float64; expected uint8"),
        (good | {"images": np.zeros((6, 3, 8, 8), np.uint8)}, "VIT-317", "channels first"),
        (good | {"images": np.zeros((6, 8, 8, 4), np.uint8)}, "VIT-317", "(6, 8, 8, 4)"),
        (good | {"images": np.zeros((6, 8), np.uint8)}, "VIT-317", "(6, 8)"),
        (good | {"images": np.zeros((0, 8, 8), np.uint8), "labels": labels(0)}, "VIT-317", "0"),
        (good | {"labels": labels(5)}, "VIT-315", "6 images but 5 labels"),
        (good | {"labels": labels(6) + 0.5}, "VIT-315", "whole numbers"),
        (good | {"labels": labels(6) - 1.0}, "VIT-315", "whole numbers from 0"),
        (good | {"labels": np.full((6, 3), 2)}, "VIT-315", "must hold 0 and 1"),
        (good | {"labels": np.array(list("abcabc"))}, "VIT-317", "labels of images"),
        (good | {"labels": np.array([None] * 6, dtype=object)}, "VIT-317", "Python objects"),
        (good | {"classes": np.array(["a", "b"])}, "VIT-315", "only 2 class names"),
        (
            good | {"test_images": pictures(2, channels=3), "test_labels": labels(2)},
            "VIT-317",
            "different channels",
        ),
    ]
    for number, (content, code, words) in enumerate(cases):
        with pytest.raises(DataError) as caught:
            npz(tmp_path / f"{number}.npz", **content)
        assert caught.value.code == code, str(caught.value)
        assert words in str(caught.value)


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def test_npz_that_claims_more_than_it_has_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for shape in [(10**6, 1000, 1000), (2**62, 8), (4, 2**31, 2**31), (3, 5, 7)]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", header(shape) + bytes(50))
            archive.writestr("labels.npy", header((3,)) + bytes(3))
        started = time.perf_counter()
        tracemalloc.start()
        with pytest.raises(DataError, match=r"claims|limit") as caught:
            open_data(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()
        assert caught.value.code in ("VIT-317", "VIT-320")
        assert time.perf_counter() - started < 1


def test_mutants_of_npz_and_idx_are_read_or_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", images=pictures(20), labels=labels(20))
    draw, refused = random.Random(3), 0
    write_mnist(tmp_path, {"test": "t10k", "dash": "-"}, True)
    victims = [tmp_path / "good.npz", tmp_path / "train-images-idx3-ubyte.gz"]
    for victim in victims:
        good = victim.read_bytes()
        for _ in range(150):
            data = bytearray(good[: draw.randrange(len(good))] if draw.random() < 0.2 else good)
            for _ in range(draw.randint(1, 5)):
                if data:
                    data[draw.randrange(len(data))] = draw.randrange(256)
            victim.write_bytes(data)
            try:
                open_data(victim if victim.suffix == ".npz" else tmp_path, **WHOLE)
            except DataError:
                refused += 1
            victim.write_bytes(good)
    assert refused > 150


def test_gray_stays_gray_and_colour_stays_colour(tmp_path: Path) -> None:
    gray = npz(tmp_path / "a.npz", images=pictures(6, channels=1), labels=labels(6))
    assert images_of(gray.train).shape == (6, 5, 7, 1)
    color = npz(tmp_path / "b.npz", images=noise(6, 5, 3)[None].repeat(4, 0), labels=labels(4))
    assert images_of(color.train).shape == (4, 6, 5, 3)


@pytest.mark.data
def test_fashion_mnist(shared_data: Path) -> None:
    splits = open_data(shared_data / "fashion_mnist")
    counts = {part: len(source) for part, source in splits.parts().items()}
    assert counts == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert splits.classes == tuple("0123456789")
    assert abs(images_of(splits.train).mean() / 255 - 0.2860) < 1e-3
    assert set(np.bincount(splits.parts()["val"].labels)) == {500}

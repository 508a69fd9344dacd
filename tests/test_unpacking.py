"""Bombs in every place where something is unpacked: refused before they are (M9)."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.data.sources.arrays import open_idx, open_npz
from vitrail.errors import VitrailError
from vitrail.model_folder.bundle import read_bundle
from vitrail.unpacking import MAX_RATIO, SMALL_BYTES, ZIP_FAULTS, TooTight, check_ratio, open_zip

ZEROS = 66 * 2**20  # a little more than what may be packed as one likes
PEAK = 24 * 2**20  # bytes of Python and NumPy


def npy_head(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zip_of_zeros(path: Path, members: dict[str, tuple[bytes, int]], method: int = 8) -> Path:
    """Members: what each begins with, and how many zeros follow."""
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, (head, zeros) in members.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(head)
                for _ in range(zeros // 2**20):
                    file.write(bytes(2**20))
    return path


def data_npz(folder: Path, method: int = 8) -> Callable[[], object]:
    n = ZEROS // (64 * 64 * 3)
    labels = io.BytesIO()
    np.save(labels, np.zeros(n, np.uint8))
    members = {
        "images.npy": (npy_head((n, 64, 64, 3)), ZEROS),
        "labels.npy": (labels.getvalue(), 0),
    }
    path = zip_of_zeros(folder / "bomb.npz", members, method)
    return lambda: open_npz(str(path))


def idx_gz(folder: Path) -> Callable[[], object]:
    head = struct.pack(">HBBIII", 0, 8, 3, ZEROS // 2**20, 1024, 1024)
    with gzip.open(folder / "train-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(head)
        for _ in range(ZEROS // 2**20):
            file.write(bytes(2**20))
    with gzip.open(folder / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">HBBI", 0, 8, 1, 66) + bytes(66))
    return lambda: open_idx(str(folder))


def model_zip(folder: Path) -> Callable[[], object]:
    members = {"m/model.json": (b"{}", 0), "m/model.safetensors": (b"", ZEROS)}
    path = zip_of_zeros(folder / "model.zip", members)
    return lambda: read_bundle(path, lambda _: {})


def torch_checkpoint(folder: Path) -> Callable[[], object]:
    members = {"a/data.pkl": (b"\x80\x02}.", 0), "a/data/0": (b"", ZEROS)}
    path = zip_of_zeros(folder / "weights.pth", members)
    return lambda: open_tensors(path)


def npz_checkpoint(folder: Path) -> Callable[[], object]:
    path = zip_of_zeros(folder / "weights.npz", {"kernel.npy": (npy_head((ZEROS,)), ZEROS)})
    return lambda: open_tensors(path)


def other_method(method: int) -> Callable[[Path], Callable[[], object]]:
    return lambda folder: data_npz(folder, method)


@pytest.mark.promise("M9")
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (data_npz, "VIT-320"),
        (other_method(zipfile.ZIP_BZIP2), "VIT-320"),
        (other_method(zipfile.ZIP_LZMA), "VIT-320"),
        (idx_gz, "VIT-320"),
        (model_zip, "VIT-411"),
        (torch_checkpoint, "VIT-411"),
        (npz_checkpoint, "VIT-411"),
    ],
    ids=["npz", "npz-bzip2", "npz-lzma", "idx-gz", "model-zip", "pth", "checkpoint-npz"],
)
def test_a_bomb_is_refused_before_it_is_unpacked(
    make: Callable[[Path], Callable[[], object]], code: str, tmp_path: Path
) -> None:
    open_it = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(VitrailError, match="packed into") as caught:
            open_it()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == code
    assert peak < PEAK


@pytest.mark.promise("M9")
def test_a_member_that_lies_about_its_size_is_cut_there(tmp_path: Path) -> None:
    """The table says 1 MB, the stream holds 66 MB."""
    n = 2**20 // (64 * 64 * 3)
    members = {"images.npy": (npy_head((n, 64, 64, 3)), ZEROS), "labels.npy": (npy_head((n,)), 0)}
    path = zip_of_zeros(tmp_path / "liar.npz", members)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x01\x02"))
    real = struct.unpack_from("<I", data, at + 24)[0]
    size = len(npy_head((n, 64, 64, 3))) + n * 64 * 64 * 3
    assert real > size
    struct.pack_into("<I", data, at + 24, size)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(VitrailError, match="VIT-3"):
            open_npz(str(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < PEAK


def test_a_table_of_millions_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    size = 20 * 2**20
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 60_000, 60_000, size, 0, 0))
    with pytest.raises(TooTight, match="table"), open_zip(path):
        pass


@pytest.mark.parametrize("place", [40, 2**63, 2**64 - 1])
def test_a_large_table_that_is_not_where_it_should_be(tmp_path: Path, place: int) -> None:
    path = tmp_path / "large.npz"
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 9, 0, 0)
    path.write_bytes(bytes(99) + struct.pack("<4sIQI", b"PK\x06\x07", 0, place, 1) + end)
    with pytest.raises(zipfile.BadZipFile, match="large table"), open_zip(path):
        pass


def test_the_rule_has_one_border() -> None:
    check_ratio(SMALL_BYTES, 1)
    check_ratio(MAX_RATIO * 10**9, 10**9)
    for unpacked, packed in ((SMALL_BYTES + 1, 1), (MAX_RATIO * 10**9 + 1, 10**9)):
        with pytest.raises(TooTight):
            check_ratio(unpacked, packed)


def test_honest_archives_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 9, 9), dtype=np.uint8)
    labels = np.arange(20) % 2
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=labels)
    assert len(open_npz(str(tmp_path / "a.npz")).train) == 20
    for name, head, values in (
        ("images-idx3", struct.pack(">HBBIII", 0, 8, 3, 20, 9, 9), images),
        ("labels-idx1", struct.pack(">HBBI", 0, 8, 1, 20), labels.astype(np.uint8)),
    ):
        with gzip.open(tmp_path / f"train-{name}-ubyte.gz", "wb") as file:
            file.write(head + values.tobytes())
    assert len(open_idx(str(tmp_path)).train) == 20


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.mark.parametrize("method", METHODS)
def test_damage_in_a_member_of_any_compression_is_a_fault_of_the_file(
    tmp_path: Path, method: int
) -> None:
    array = io.BytesIO()
    np.save(array, np.arange(7 * 5 * 11 * 3, dtype=np.uint8).reshape(7, 5, 11, 3))
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", array.getvalue())
        archive.writestr("labels.npy", array.getvalue())
    whole, faults = path.read_bytes(), 0
    for place in range(30, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xA5
        path.write_bytes(damaged)
        try:
            with open_zip(path) as archive:
                for name in archive.namelist():
                    archive.read(name)
        except (TooTight, *ZIP_FAULTS):
            faults += 1
    assert faults > len(whole) / 6

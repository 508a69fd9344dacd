"""Files of tensors against the libraries that write them: the same names, types and bits."""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.golden.case import CASES
from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.checkpoints.formats.tensor_writing import write_folder, write_npz, write_safetensors
from vitrail.errors import EnvironmentFault, ModelError

FILES = sorted(
    path
    for folder in CASES.iterdir()
    if folder.is_dir()
    for path in folder.iterdir()
    if path.suffix in (".npz", ".pth", ".bin", ".safetensors") and path.name != "io.npz"
)


def some(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Tensors of prime sizes, one without numbers, one without axes."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"a.weight": (7, 5), "b": (3, 2, 11), "c": (), "d": (0, 5)}
    return {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }


def values_of(path: Path) -> dict[str, Tensor]:
    """Everything that our reader finds."""
    file = open_tensors(path)
    try:
        return {name: file.read(name) for name in file.header.shapes}
    finally:
        file.close()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert torch.equal(found[name], value), name


def by_library(path: Path) -> dict[str, Tensor]:
    """The tensors as numpy, safetensors or torch reads them."""
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix != ".npz":
        state: dict[str, Tensor] = torch.load(path, weights_only=True)
        return state.get("model", state)  # type: ignore[return-value]
    with np.load(path, allow_pickle=False) as file:
        raw = {name: file[name] for name in file.files}
    return {
        name: torch.from_numpy(value.view(np.uint16)).view(torch.bfloat16)
        if value.dtype.kind in "Vu"
        else torch.from_numpy(value)
        for name, value in raw.items()
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_golden_file(path: Path) -> None:
    assert_same(values_of(path), by_library(path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(tmp_path: Path, dtype: torch.dtype, *, legacy: bool) -> None:
    path, expected = tmp_path / "a.pt", some(dtype)
    torch.save(expected, path, _use_new_zipfile_serialization=not legacy)
    assert_same(values_of(path), expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_views_share_a_storage(tmp_path: Path, *, legacy: bool) -> None:
    """Slices, transposed and strided views, and one tensor under two names."""
    whole = torch.arange(77.0).reshape(7, 11)
    views = {"t": whole.t(), "rows": whole[2:5], "steps": whole[::3, 1::2], "one": whole[6, 10]}
    expected = {"whole": whole, "again": whole, **views, "other": torch.ones(3)}
    path = tmp_path / "a.pth"
    torch.save(expected, path, _use_new_zipfile_serialization=not legacy)
    assert_same(values_of(path), expected)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "teacher", "anything"])
def test_wrapped_state_dicts(tmp_path: Path, wrapper: str) -> None:
    """What training scripts keep beside the weights is read as nothing."""
    beside: dict[str, Any] = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, place=pathlib.PurePosixPath("a")),
        "best": np.float64(0.5),
        "array": np.arange(3),
        "size": torch.Size((3, 2)),
        "dtype": torch.float32,
        "set": {1, 2},
    }
    beside["args"].place = None
    path = tmp_path / "a.pth"
    torch.save({wrapper: OrderedDict(some()), **beside}, path)
    assert_same(values_of(path), some())


def test_of_two_tables_that_called_model_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model_ema": {"x": torch.zeros(2)}, "model": some(), "optim": {}}, path)
    file = open_tensors(path)
    assert set(file.header.shapes) == set(some())
    assert file.header.metadata["torch"]["more"] == ["model_ema"]
    file.close()
    torch.save({"left": some(), "right": some()}, path)
    with pytest.raises(ModelError, match="several tables of tensors: left, right"):
        open_tensors(path)


def test_buffers_of_a_module(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    path = tmp_path / "a.pth"
    torch.save(module.state_dict(), path)
    file = open_tensors(path)
    assert set(file.header.shapes) == set(module.state_dict())
    with pytest.raises(ModelError, match="I64"):
        file.read("1.num_batches_tracked")
    file.close()


@pytest.mark.parametrize(
    "beside", [{"best_acc1": torch.tensor(73.2)}, {"loss": torch.tensor([2.0]), "epoch": 3}]
)
def test_a_tensor_beside_the_table(tmp_path: Path, beside: dict[str, Any]) -> None:
    """A figure above a table of weights does not make the top the table; figures are named."""
    path = tmp_path / "a.pth"
    torch.save({**beside, "state_dict": some(), "optimizer": {"state": {"x": some()}}}, path)
    file = open_tensors(path)
    assert set(file.header.shapes) == set(some())
    assert file.header.metadata["torch"]["beside"] == [*beside, "optimizer"]
    file.close()


def test_a_table_within_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"checkpoint": {"model": some(), "epoch": 3}, "version": 1}, path)
    assert_same(values_of(path), some())


def test_weights_above_and_a_small_table(tmp_path: Path) -> None:
    """Most tensors lie above: the top is the table."""
    path = tmp_path / "a.pth"
    torch.save({**some(), "extra": {"x": torch.ones(2)}}, path)
    assert_same(values_of(path), some())


def test_torch_file_packed_again(tmp_path: Path) -> None:
    """A .pth that was unpacked and packed by other programs, with deflate."""
    stream = io.BytesIO()
    whole = torch.arange(60.0).reshape(6, 10)
    torch.save({"a": whole[1:3], "b": whole}, stream)
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert_same(values_of(path), {"a": whole[1:3], "b": whole})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_forms(tmp_path: Path, save: Any) -> None:
    """By rows and by columns, views, half, raw bfloat16, names with slashes, packed."""
    generator = np.random.default_rng(0)
    array = generator.standard_normal((5, 7, 3)).astype(np.float32)
    half = array.astype(np.float16)
    bits = torch.from_numpy(array).to(torch.bfloat16).view(torch.uint16).numpy()
    save(
        tmp_path / "a.npz",
        **{
            "x/kernel": array,
            "columns": np.asfortranarray(array),
            "step": array[::2, :, ::-1],
            "half": half,
            "raw": bits.view("V2"),
            "uint": bits,
            "none": array[:0],
            "one": np.float32(3),
            "big": np.zeros((1000, 1000), np.float32),
            "count": np.arange(3),
        },
    )
    file = open_tensors(tmp_path / "a.npz")
    expected = torch.from_numpy(array)
    assert torch.equal(file.read("x/kernel"), expected)
    assert torch.equal(file.read("columns"), expected)
    assert torch.equal(file.read("step"), expected[::2].flip(2))
    assert torch.equal(file.read("half"), torch.from_numpy(half))
    assert torch.equal(file.read("raw"), expected.to(torch.bfloat16))
    assert torch.equal(file.read("uint"), expected.to(torch.bfloat16))
    assert file.read("none").shape == (0, 7, 3)
    assert file.read("one") == 3
    assert file.read("big").sum() == 0
    with pytest.raises(ModelError, match="I64"):
        file.read("count")
    file.close()


def test_safetensors_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.safetensors"
    write_safetensors(path, some(), {"note": "here"})
    assert_same(values_of(path), some())
    assert_same(load_file(path), some())
    file = open_tensors(path)
    assert file.header.metadata["safetensors"] == {"format": "pt", "note": "here"}
    file.close()
    assert path.stat().st_mode & 0o044  # not for the owner alone
    assert [item.name for item in path.parent.iterdir()] == ["a.safetensors"]


def test_npz_written_and_read(tmp_path: Path) -> None:
    path, again = tmp_path / "a.npz", tmp_path / "b.npz"
    tensors = {name: value.t() if value.ndim == 2 else value for name, value in some().items()}
    write_npz(path, tensors)
    assert_same(values_of(path), tensors)
    assert_same(by_library(path), tensors)
    write_npz(again, tensors)
    assert path.read_bytes() == again.read_bytes()  # no date, no random order


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"mine")
    (tmp_path / "link.npz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    for name in ("a.npz", "link.npz", "folder"):
        with pytest.raises(ModelError, match="exists") as caught:
            write_npz(tmp_path / name, some())
        assert caught.value.code == "VIT-440"
    with pytest.raises(ModelError, match="exists"):
        write_folder(tmp_path / "folder", "model.safetensors", some(), {})
    assert (tmp_path / "a.npz").read_bytes() == b"mine"
    assert not any(item.name.startswith(".tmp") for item in tmp_path.iterdir())


def test_a_writing_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitrail.files.flush_to_disk", fails)
    with pytest.raises(EnvironmentFault, match="No space left"):
        write_npz(tmp_path / "a.npz", some())
    with pytest.raises(EnvironmentFault, match="No space left"):
        write_folder(tmp_path / "f", "model.safetensors", some(), {"config.json": b"{}"})
    assert list(tmp_path.iterdir()) == []


def test_sharded_folder(tmp_path: Path) -> None:
    parts = {"model-00001-of-00002.safetensors": some(), "other.safetensors": {"z": torch.ones(2)}}
    for name, tensors in parts.items():
        save_file(tensors, tmp_path / name)
    table = {key: name for name, tensors in parts.items() for key in tensors}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    expected = {**some(), "z": torch.ones(2)}
    assert_same(values_of(tmp_path), expected)
    assert_same(values_of(index), expected)
    file = open_tensors(tmp_path)
    assert file.header.metadata["config.json"] == {"model_type": "vit"}
    assert file.header.name == f"{tmp_path.name}/model.safetensors.index.json"
    file.close()


def sharded(folder: Path, parts: dict[str, dict[str, Any]], index: str) -> Path:
    """Files of tensors, and the index that names them."""
    for name, tensors in parts.items():
        save = save_file if name.endswith(".safetensors") else torch.save
        save(tensors, folder / name)
    table = {key: name for name, tensors in parts.items() for key in tensors}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return folder / index


def test_pickles_under_an_index(tmp_path: Path) -> None:
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    parts = dict(zip(names, [some(), {"z": torch.ones(2)}], strict=True))
    index = sharded(tmp_path, parts, "pytorch_model.bin.index.json")
    expected = {**some(), "z": torch.ones(2)}
    assert_same(values_of(tmp_path), expected)
    assert_same(values_of(index), expected)
    index.unlink()
    with pytest.raises(ModelError, match=r"no index of them.\n.*pytorch_model.bin.index.json"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_an_index_names_every_tensor_of_its_files_once(tmp_path: Path, ending: str) -> None:
    """A tensor in no file, in another file, in two files, in none of the index."""
    stem = {".safetensors": "model", ".bin": "pytorch_model"}[ending]
    one, two = (f"{stem}-0000{number}-of-00002{ending}" for number in (1, 2))
    parts = {one: {"a": torch.ones(2), "b": torch.ones(3)}, two: {"c": torch.ones(4)}}
    index = sharded(tmp_path, parts, f"{stem}{ending}.index.json")
    good = json.loads(index.read_text())["weight_map"]
    values_of(tmp_path)
    for table in ({**good, "d": one}, {**good, "b": two}, {"a": one, "c": two}, {"a": one}):
        index.write_text(json.dumps({"weight_map": table}))
        if set(table.values()) == {one, two} or table == {"a": one}:
            with pytest.raises(ModelError) as caught:
                open_tensors(tmp_path)
            assert caught.value.code == "VIT-412"
    sharded(tmp_path, {**parts, two: {"c": torch.ones(4), "b": torch.ones(3)}}, "other.json")
    index.write_text(json.dumps({"weight_map": good}))
    with pytest.raises(ModelError, match="b of"):
        open_tensors(tmp_path)


def test_an_adapter_is_named(tmp_path: Path) -> None:
    save_file(some(), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="merge_and_unload"):
        open_tensors(tmp_path)


def test_a_folder_with_several_files_asks_which(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        open_tensors(tmp_path)
    assert caught.value.code == "VIT-431"
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, some())
    with pytest.raises(ModelError, match="2 files of weights: a.npz, b.npz"):
        open_tensors(tmp_path)
    (tmp_path / "b.npz").unlink()
    assert_same(values_of(tmp_path), some())


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", some())
    (tmp_path / "a.npz").rename(tmp_path / "a.pth")
    assert_same(values_of(tmp_path / "a.pth"), some())


def test_a_file_that_changes_while_it_is_open(tmp_path: Path) -> None:
    """What was opened is what is read; values are copies that nobody else can change."""
    path = tmp_path / "a.safetensors"
    write_safetensors(path, some())
    file = open_tensors(path)
    first = file.read("b")
    path.unlink()
    save_file({"b": torch.zeros(2)}, path)
    assert torch.equal(file.read("b"), some()["b"])
    assert torch.equal(first, some()["b"])
    file.close()

"""Opens a file or folder of tensors by what is in it, whatever its name says.

A folder is one of Hugging Face or timm: config.json and its like beside the weights. Nothing is
read of the values until they are asked for, and nothing of a file is executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from vitrail.checkpoints.catalogue.meant import way_out
from vitrail.checkpoints.formats.limits import MAX_JSON_BYTES
from vitrail.checkpoints.formats.npz_file import NpzFile, is_npz
from vitrail.checkpoints.formats.open_file import OpenFile
from vitrail.checkpoints.formats.safetensors_file import SafetensorsFile, parse_json
from vitrail.checkpoints.formats.shards import open_shards
from vitrail.checkpoints.formats.torch_pickle import TorchFile, is_torch_zip
from vitrail.checkpoints.formats.zip_directory import read_directory
from vitrail.checkpoints.mapping.rules import Header, listed
from vitrail.checkpoints.mapping.scratch import Memory
from vitrail.errors import ModelError
from vitrail.model_folder.bundle import MAX_BYTES
from vitrail.spelling import count

# Of a folder, the first that is there.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
PROCESSOR, NESTED = "preprocessor_config.json", "processor_config.json"
BESIDE = ("config.json", PROCESSOR, NESTED, "open_clip_config.json")
ADAPTER = "adapter_config.json"
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(\.safetensors|\.bin)")
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt")
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")
NO_CHECKPOINTS = {  # how other files begin, and what they are
    b"\x89HDF": "an HDF5 file (Keras); save the weights as .npz or .safetensors",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it: git lfs pull",
    b"<!DOCTYPE": "a web page; the download went wrong",
    b"<!doctype": "a web page; the download went wrong",
    b"<html": "a web page; the download went wrong",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; checkpoints are not packed",
    b"\x1f\x8b": "a gzip file; unpack it first: gunzip",
    b"\x08": "an ONNX or protocol-buffer file",
}


class OpenTensors(Protocol):
    """A `TensorSource` that is closed after use."""

    header: Header

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file."""

    def close(self) -> None:
        """Closes the file."""


def open_tensors(path: Path, *, max_bytes: int = MAX_BYTES, table: str = "") -> OpenTensors:
    """The tensors of a .npz, .safetensors, .pth, .pt or .bin file, or of a folder with weights and
    config.json. max_bytes: of all values together; table: which one is wanted of a training file
    that holds several.

    Raises ModelError: VIT-402 a pickle that asks for more than tensors, VIT-411 beyond the limits,
    VIT-412 damaged, VIT-430 nothing there, VIT-431 no file of tensors, VIT-433 a part is missing.
    """
    if path.is_dir():
        return _open_folder(path, weights_of(path), max_bytes, table)
    if path.name in WEIGHTS and path.is_file():
        return _open_folder(path.parent, path, max_bytes, table)
    return _open_file(path, path.name, max_bytes, table)


def weights_of(folder: Path) -> Path:
    """The file of weights in a folder. Raises ModelError VIT-431 where there is none or several."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    if (folder / ADAPTER).is_file():
        raise ModelError(
            "VIT-431",
            f"{folder} is an adapter of peft (LoRA): a change of another model's weights.",
            hint="Merge it first: model.merge_and_unload().save_pretrained(FOLDER)",
        )
    found = sorted(item for item in _files(folder) if item.suffix.lower() in SUFFIXES)
    if found and (shard := SHARD.fullmatch(found[0].name)):
        raise ModelError(
            "VIT-433",
            f"{folder} holds parts of a model ({found[0].name}), but no index of them.",
            hint=f"Get {shard[1]}{shard[2]}.index.json too.",
        )
    if len(found) == 1:
        return found[0]
    what = (
        f"{count(len(found), 'file')} of weights: {listed([item.name for item in found])}"
        if found
        else ("neither a model of vitrail nor weights of another library")
    )
    raise ModelError(
        "VIT-431",
        f"{folder} has {what}.",
        hint="Name one file, or a run directory (runs/NAME) or model folder (runs/NAME/model).",
    )


def _files(folder: Path) -> Iterable[Path]:
    return (item for item in folder.iterdir() if item.is_file())


def _open_folder(folder: Path, weights: Path, max_bytes: int, table: str) -> OpenTensors:
    metadata: dict[str, Any] = {}
    for name in BESIDE:
        if (folder / name).is_file():
            file = OpenFile(folder / name, name)
            metadata[name] = parse_json(file.bytes_at(0, MAX_JSON_BYTES + 1), name)
            file.close()
    nested = metadata.get(NESTED, {}).get("image_processor")
    if nested is not None:  # transformers takes this one where there are both
        metadata[PROCESSOR] = nested
    title = f"{folder.name}/{weights.name}"
    opened: OpenTensors
    if weights.name.endswith(".index.json"):
        opened = open_shards(
            weights, title, lambda path, name: _open_file(path, name, max_bytes), max_bytes
        )
    else:
        opened = _open_file(weights, title, max_bytes, table)
    merged = {**opened.header.metadata, **metadata}
    opened.header = replace(opened.header, metadata=merged)
    return opened


def _open_file(path: Path, title: str, max_bytes: int, table: str = "") -> OpenTensors:
    if not path.exists():
        raise ModelError(
            "VIT-430",
            f"{path}: there is no such file or folder.",
            hint=way_out(str(path))
            or "A model is a run directory, a model folder, or a checkpoint of another library.",
        )
    file = OpenFile(path, title)
    start = file.bytes_at(0, 64)
    if start.startswith(b"PK"):
        members = read_directory(file)
        if is_npz(members):
            return NpzFile(file, members, max_bytes)
        if is_torch_zip(members):
            return TorchFile(file, members, max_bytes, table)
        raise _no_checkpoint(title, f"a zip file of {listed(sorted(members)[:20])}")
    if start[8:9] == b"{":
        return SafetensorsFile(file, max_bytes)
    if start.startswith(b"\x80"):
        return TorchFile(file, None, max_bytes, table)
    for mark, what in NO_CHECKPOINTS.items():
        if start.lstrip().startswith(mark):
            raise _no_checkpoint(title, what)
    what = "of an unknown kind" if start else "empty"
    if path.suffix.lower() in PICKLES:
        what += "; a pickle of another program can run code when opened"
    raise _no_checkpoint(title, what)


def _no_checkpoint(title: str, what: str) -> ModelError:
    return ModelError(
        "VIT-431",
        f"{title} holds no tensors that can be read: it is {what}.",
        hint="Expected .npz, .safetensors, .pth, .pt, .bin, or a folder with one of them.",
    )

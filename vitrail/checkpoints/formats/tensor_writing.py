"""Writes files of tensors and what stands beside them: whole or not at all, never over another.

How: `vitrail/files.py`. Pickles are never written.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from vitrail.files import whole_file, whole_folder, writing
from vitrail.model_folder.bundle import refuse_existing

FORMAT = {"format": "pt"}  # transformers asks for it
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same tensors give the same file


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a new .safetensors file. Raises ModelError VIT-440, EnvironmentFault VIT-506."""
    with whole_file(path, refuse=refuse_existing) as temporary:
        _save_safetensors(temporary, tensors, metadata or {})


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a new .npz file, not packed. Raises ModelError VIT-440, EnvironmentFault VIT-506."""
    with whole_file(path, refuse=refuse_existing) as temporary:
        _save_npz(temporary, tensors)


def write_folder(
    folder: Path,
    weights: str,
    tensors: Mapping[str, Tensor],
    files: Mapping[str, bytes],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a new folder with `weights` and `files` in it.

    Raises ModelError VIT-440, EnvironmentFault VIT-506.
    """
    with whole_folder(folder, refuse=refuse_existing) as temporary:
        with writing(folder / weights):
            if weights.endswith(".npz"):
                _save_npz(temporary / weights, tensors)
            else:
                _save_safetensors(temporary / weights, tensors, metadata or {})
        for name, data in files.items():
            (temporary / name).write_bytes(data)


def _save_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    values = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    save_file(values, path, metadata={**FORMAT, **metadata})


def _save_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, value in tensors.items():
            array = value.detach().cpu().contiguous().numpy()
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                head, np.lib.format.header_data_from_array_1_0(array)
            )
            item = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            item.external_attr = 0o644 << 16
            item.file_size = len(head.getvalue()) + array.nbytes
            with archive.open(item, "w", force_zip64=item.file_size >= 2**31) as stream:
                stream.write(head.getvalue())
                stream.write(array.reshape(-1).view(np.uint8).data)

"""Writes files of tensors and what stands beside them: whole or not at all, never over another.

A file is written beside its target, flushed to disk and given its name in one step. Pickles are
never written.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from vitrail.bundle import flush_to_disk
from vitrail.errors import EnvironmentFault, ModelError

FORMAT = {"format": "pt"}  # transformers asks for it
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same tensors give the same file


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a new .safetensors file. Raises ModelError VIT-440, EnvironmentFault VIT-506."""
    with new_file(path) as temporary:
        _save_safetensors(temporary, tensors, metadata or {})


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a new .npz file, not packed. Raises ModelError VIT-440, EnvironmentFault VIT-506."""
    with new_file(path) as temporary:
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
    with new_folder(folder) as temporary:
        if weights.endswith(".npz"):
            _save_npz(temporary / weights, tensors)
        else:
            _save_safetensors(temporary / weights, tensors, metadata or {})
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        for name in (weights, *files, "."):
            flush_to_disk(temporary / name)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A name to write to; when the block ends well it becomes `path`, which must not exist."""
    temporary = _temporary(path)
    with _faults(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            flush_to_disk(temporary)
            _name_file(temporary, path)
            flush_to_disk(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; when the block ends well it becomes `path`, which must not exist."""
    temporary = _temporary(path)
    with _faults(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            refuse_existing(path)  # a rename would replace an empty folder
            os.rename(temporary, path)
            flush_to_disk(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path) -> None:
    """Raise ModelError VIT-440 where `path` is there, also as a broken link."""
    if path.exists() or path.is_symlink():
        raise ModelError(
            "VIT-440", f"{path} exists; a model is never overwritten.", hint="Choose another name."
        )


def _temporary(path: Path) -> Path:
    refuse_existing(path)
    return path.with_name(f".tmp-{path.name}-{os.getpid()}-{os.urandom(4).hex()}")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            refuse_existing(path)
        raise EnvironmentFault(
            "VIT-506",
            f"{path} cannot be written: {error.strerror or error}",
            hint="Free some disk space, or choose another place.",
        ) from error


def _name_file(temporary: Path, path: Path) -> None:
    """Give the file its name; a link fails where the name is taken, a rename would replace it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        refuse_existing(path)
        os.rename(temporary, path)


def _save_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    path.touch()
    mode = path.stat().st_mode  # save_file makes it 0600
    values = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    save_file(values, path, metadata={**FORMAT, **metadata})
    os.chmod(path, mode)


def _save_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with zipfile.ZipFile(path, "x", allowZip64=True) as archive:
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

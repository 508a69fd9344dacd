"""Tensors written as a safetensors file piece by piece, with the sha256 taken on the way.

Format: 8 bytes little-endian header length, a JSON header padded with spaces to a multiple of 8,
then the tensors' bytes without gaps (github.com/huggingface/safetensors, README). The library's own
writer serialises into one more copy in memory, or writes to a path itself where neither fsync nor a
test can get at the calls.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitrail.errors import EnvironmentFault
from vitrail.runs.filesystem import LocalFiles, write_all

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The bytes of the file: header, then one piece a tensor. Wide types first, so that every
    tensor is aligned.
    """
    if sys.byteorder != "little":
        raise EnvironmentFault(
            "VIT-502",
            "weights are written in little-endian order; this machine is big-endian.",
            hint="Use a machine with an x86 or ARM processor.",
        )
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        flat = tensors[name].detach().to("cpu").contiguous().reshape(-1)
        if flat.numel():
            yield flat.view(torch.uint8).numpy().data


def write_file(
    fs: LocalFiles, path: Path, content: Iterator[bytes | memoryview]
) -> tuple[int, str]:
    """Create `path` with the pieces of `content`, make it durable; returns (bytes, sha256)."""
    size, digest = 0, hashlib.sha256()
    fd = fs.create(path)
    try:
        for piece in content:
            write_all(fs, fd, piece)
            digest.update(piece)
            size += len(piece)
        fs.sync(fd)
    finally:
        fs.close(fd)
    return size, digest.hexdigest()

"""A regular file that is read by offsets, straight into memory that is there already."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import torch
from torch import Tensor

from vitrail.checkpoints.formats.limits import FLOATS, ITEM_BYTES, damaged
from vitrail.checkpoints.mapping.scratch import Memory, touched_bytes
from vitrail.errors import ModelError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
CHUNK = 2**30  # one read call moves at most 2 GB


class OpenFile:
    """name: for messages. Opened once, so that what was checked is what is read."""

    def __init__(self, path: Path, name: str) -> None:
        """Raises ModelError VIT-430 where `path` is no regular file, OSError where it cannot be
        opened.
        """
        self.path, self.name, self.lock = path, name, threading.Lock()
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        self.handle = os.open(path, flags)  # O_NONBLOCK: a pipe must not make us wait
        found = os.fstat(self.handle)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise ModelError("VIT-430", f"{name} is no regular file.", hint="Name a file.")

    def close(self) -> None:
        """Safe to call twice."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self.close()

    def bytes_at(self, offset: int, count: int) -> bytes:
        """`count` bytes, fewer at the end of the file."""
        buffer = bytearray(max(0, min(count, self.size - offset)))
        return bytes(buffer[: self._fill(offset, memoryview(buffer))])

    def fill(self, offset: int, buffer: memoryview) -> None:
        """The bytes at `offset`, as many as `buffer` takes. Raises ModelError VIT-412."""
        if self._fill(offset, buffer) != len(buffer):
            raise damaged(self.name, f"it ends before byte {offset + len(buffer)}")

    def _fill(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            part = buffer[done : done + CHUNK]
            if hasattr(os, "preadv"):
                count = os.preadv(self.handle, [part], offset + done)
            else:  # Windows
                with self.lock:
                    os.lseek(self.handle, offset + done, os.SEEK_SET)
                    data = os.read(self.handle, len(part))
                part[: len(data)] = data
                count = len(data)
            if count == 0:
                break
            done += count
        return done


def empty_values(dtype: str, count: int, memory: Memory | None) -> tuple[Tensor, memoryview]:
    """Room for `count` numbers of a floating-point type, and its bytes to be filled."""
    if dtype not in FLOATS:
        raise ValueError(f"{dtype} is no floating-point type")
    size = count * ITEM_BYTES[dtype]
    raw = memory.room(size) if memory else touched_bytes(size)
    return raw.view(DTYPES[dtype]), raw.numpy().data

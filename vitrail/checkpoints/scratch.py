"""Memory for tensors that are read: fresh for what stays, used again for what is rearranged.

Fresh memory costs five times the reading itself, because the system hands out zeroed pages one by
one. NumPy asks for large pages, which takes a third of the time of torch's; what stays is cut from
large blocks, so that nearly all of it lies in such pages (ViT-B/16: 180 page faults, not 27,000).
Pieces that come and go between pieces that stay leave holes; so what is only rearranged lies in
memory of its own.
"""

from __future__ import annotations

import threading
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

KEPT = 32 * 2**20  # bytes of scratch memory; more is let go between two rules
ALIGNED = 64  # bytes, as torch's own tensors are
BLOCK = 32 * 2**20  # bytes; lives as long as one of the tensors in it
LARGE_PAGE = 2 * 2**20


class Memory(Protocol):
    """Where tensors that are read find room."""

    def room(self, size: int) -> Tensor:
        """`size` bytes, uint8, without values."""


def fresh_bytes(size: int, aligned: int = ALIGNED) -> Tensor:
    """`size` bytes, uint8, with a storage of their own that begins at a multiple of `aligned`."""
    memory = np.empty(size + aligned, np.uint8)
    start = -memory.ctypes.data % aligned
    return torch.from_numpy(memory[start : start + size])


def fresh_floats(shape: tuple[int, ...]) -> Tensor:
    """An empty float32 tensor."""
    return fresh_bytes(4 * prod(shape)).view(torch.float32).view(shape)


class Blocks:
    """Room for what stays; two threads may ask at once."""

    def __init__(self) -> None:
        self.free = fresh_bytes(0).numpy()
        self.lock = threading.Lock()

    def room(self, size: int) -> Tensor:
        """`size` bytes, uint8, that nobody else gets, with a storage of their own."""
        with self.lock:
            if size > len(self.free):
                self.free = fresh_bytes(max(size, BLOCK), LARGE_PAGE).numpy()
            found = self.free[:size]
            self.free = self.free[-(-size // ALIGNED) * ALIGNED :]
        return torch.from_numpy(found)


class Scratch:
    """Room for the tensors of one rule at a time; `blocks` for what is kept of them."""

    def __init__(self, blocks: Blocks | None = None) -> None:
        self.blocks = blocks or Blocks()
        self.memory = fresh_bytes(0)
        self.used = 0

    def start(self) -> None:
        """What was handed out before may be written over from here on."""
        self.used = 0
        if self.memory.numel() > KEPT:
            self.memory = fresh_bytes(0)

    def room(self, size: int) -> Tensor:
        """`size` bytes, uint8, that nobody else has until the next start."""
        if self.used + size > self.memory.numel():
            self.memory = fresh_bytes(self.used + size)
            self.used = 0  # what was handed out keeps the old memory alive
        found = self.memory[self.used : self.used + size]
        self.used += -(-size // ALIGNED) * ALIGNED
        return found

    def kept(self, value: Tensor) -> Tensor:
        """`value` as float32, contiguous, in memory that is not used again."""
        is_scratch = value.untyped_storage().data_ptr() == self.memory.untyped_storage().data_ptr()
        if value.dtype == torch.float32 and value.is_contiguous() and not is_scratch:
            return value
        room = self.blocks.room(4 * value.numel()).view(torch.float32)
        return room.view(value.shape).copy_(value)

"""Memory for tensors that are read: fresh for what stays, used again for what is rearranged.

Fresh memory costs five times the reading itself, because the system hands out zeroed pages one by
one. NumPy asks for large pages, which takes a third of the time of torch's. Pieces that come and go
between pieces that stay leave holes; so what is only rearranged lies in memory of its own.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

KEPT = 32 * 2**20  # bytes of scratch memory; more is let go between two rules
ALIGNED = 64  # bytes, as torch's own tensors are


def fresh_bytes(size: int) -> Tensor:
    """`size` bytes, uint8, with a storage of their own."""
    memory = np.empty(size + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return torch.from_numpy(memory[start : start + size])


def fresh_floats(shape: tuple[int, ...]) -> Tensor:
    """An empty float32 tensor."""
    return fresh_bytes(4 * prod(shape)).view(torch.float32).view(shape)


class Scratch:
    """Room for the tensors of one rule at a time."""

    def __init__(self) -> None:
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
        """`value` as float32, contiguous, in memory of its own."""
        is_scratch = value.untyped_storage().data_ptr() == self.memory.untyped_storage().data_ptr()
        if value.dtype == torch.float32 and value.is_contiguous() and not is_scratch:
            return value
        return fresh_floats(tuple(value.shape)).copy_(value)

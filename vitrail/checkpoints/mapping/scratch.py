"""Memory for tensors that are read: fresh for what stays, used again for what is rearranged.

Fresh memory costs five times the reading itself, because the system hands out zeroed pages one by
one; two threads that fill it halve the time. Pages of 2 MB, which NumPy asks for, cost a tenth of
that or three times as much: in a virtual machine it depends on whether its host still has them.
"""

from __future__ import annotations

from math import prod
from typing import Protocol

import torch
from torch import Tensor

PAGE = 4096  # bytes, the smallest there are
KEPT = 32 * 2**20  # bytes of scratch memory; more is let go between two rules
ALIGNED = 64  # bytes, as torch's own tensors are


class Memory(Protocol):
    """Where tensors that are read find room."""

    def room(self, size: int) -> Tensor:
        """`size` bytes, uint8, without values."""


def fresh_bytes(size: int) -> Tensor:
    """`size` bytes, uint8, with a storage of their own."""
    return torch.empty(size, dtype=torch.uint8)


def touched_bytes(size: int) -> Tensor:
    """`fresh_bytes` to read a file into. A read call that meets fresh pages takes a lock that all
    threads share; so each page is written to before.
    """
    memory = fresh_bytes(size)
    memory.numpy()[::PAGE] = 0
    return memory


def fresh_floats(shape: tuple[int, ...]) -> Tensor:
    """An empty float32 tensor."""
    return fresh_bytes(4 * prod(shape)).view(torch.float32).view(shape)


class Scratch:
    """Room for the tensors of one rule at a time, of one thread."""

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
        """`value` as float32, contiguous, in memory that is not used again."""
        is_scratch = value.untyped_storage().data_ptr() == self.memory.untyped_storage().data_ptr()
        if value.dtype == torch.float32 and value.is_contiguous() and not is_scratch:
            return value
        return fresh_floats(tuple(value.shape)).copy_(value)

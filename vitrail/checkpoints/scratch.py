"""Memory that tensors are read into when they are rearranged anyway, used again for each rule.

Fresh memory costs five times the reading itself (the system hands out zeroed pages one by one), and
pieces that come and go between pieces that stay leave holes: without this, reading an .npz takes
twice as long and a third more memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

KEPT = 32 * 2**20  # bytes; more is let go between two rules


class Scratch:
    """Room for the tensors of one rule at a time."""

    def __init__(self) -> None:
        self.memory = torch.empty(0, dtype=torch.uint8)
        self.used = 0

    def start(self) -> None:
        """What was handed out before may be written over from here on."""
        self.used = 0
        if self.memory.numel() > KEPT:
            self.memory = torch.empty(0, dtype=torch.uint8)

    def room(self, size: int) -> Tensor:
        """`size` bytes, uint8, that nobody else has until the next start."""
        if self.used + size > self.memory.numel():
            self.memory = torch.empty(self.used + size, dtype=torch.uint8)
            self.used = 0  # what was handed out keeps the old memory alive
        found = self.memory[self.used : self.used + size]
        self.used += -(-size // 64) * 64  # aligned for any type
        return found

    def own(self, value: Tensor) -> Tensor:
        """`value`, copied where it lies in here."""
        is_ours = value.untyped_storage().data_ptr() == self.memory.untyped_storage().data_ptr()
        return value.clone() if is_ours else value

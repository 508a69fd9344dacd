"""Reads the tensors of the next rules while those of one are rearranged.

One thread reads and looks for NaN while the values are in the processor's cache (both leave
Python's lock alone), the caller's rearranges. At most two rules' tensors are in memory beside what
is kept, and at most `AHEAD` bytes or one rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitrail.checkpoints.scratch import Blocks, Scratch

if TYPE_CHECKING:
    from vitrail.checkpoints.rules import Rule, TensorSource

READERS = 1  # with two a ViT-B/16 took 320 ms, not 88: both ask for fresh pages
AHEAD = 32 * 2**20  # bytes; a rule of more is read alone, as of blocks that are stacked in one


class Read(NamedTuple):
    """A rule with its tensors, and the scratch memory that may hold them until the next rule is
    asked for. is_finite: whatever the rule makes of them holds no NaN and no infinity; False: that
    is not known.
    """

    rule: Rule
    tensors: list[Tensor]
    scratch: Scratch
    is_finite: bool


def read_ahead(source: TensorSource, rules: Iterable[Rule]) -> Iterator[Read]:
    """The tensors of each rule, in order. Raises what `source.read` raises."""
    blocks = Blocks()
    free = [Scratch(blocks) for _ in range(READERS + 1)]
    waiting: deque[tuple[Future[Read], int]] = deque()

    def read(rule: Rule, scratch: Scratch) -> Read:
        scratch.start()
        tensors, finite = [], not rule.adds
        for name in rule.theirs:
            stays = rule.keeps and source.header.dtypes.get(name) == "F32"
            tensors.append(source.read(name, blocks if stays else scratch))
            # In float64 and bfloat16 it is left to the caller, who makes them float32.
            finite = finite and tensors[-1].dtype == torch.float32 and is_finite(tensors[-1])
        return Read(rule, tensors, scratch, finite)

    with ThreadPoolExecutor(READERS, thread_name_prefix="read-ahead") as pool:
        try:
            for rule in rules:
                size = sum(4 * prod(source.header.shapes[name]) for name in rule.theirs)
                while waiting and (not free or size + sum(held for _, held in waiting) > AHEAD):
                    done = waiting.popleft()[0].result()
                    yield done
                    done.scratch.start()
                    free.append(done.scratch)
                waiting.append((pool.submit(read, rule, free.pop()), size))
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            pool.shutdown(cancel_futures=True)


def is_finite(value: Tensor) -> bool:
    """No NaN, no infinity in a float32 tensor. A sum shows both; einsum's takes half the time of
    NumPy's other one, and torch's threads would meet at each of some hundred tensors.
    """
    with np.errstate(all="ignore"):
        total = np.einsum(value.numpy(), list(range(value.dim())), [])
    return bool(np.isfinite(total)) or bool(value.isfinite().all())

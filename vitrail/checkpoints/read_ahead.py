"""Reads the tensors of the next rules while those of one are rearranged.

Two threads read and check (both leave Python's lock alone), the caller's rearranges. At most three
rules' tensors are in memory beside what is kept, and at most `AHEAD` bytes or one rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING

from torch import Tensor

from vitrail.checkpoints.scratch import Scratch

if TYPE_CHECKING:
    from vitrail.checkpoints.rules import Rule, TensorSource

READERS = 2
AHEAD = 32 * 2**20  # bytes; a rule of more is read alone, as of blocks that are stacked in one
Read = tuple["Rule", list[Tensor], Scratch]


def read_ahead(source: TensorSource, rules: Iterable[Rule]) -> Iterator[Read]:
    """Each rule with its tensors, in order, and the scratch memory that may hold them until the
    next rule is asked for. Raises what `source.read` raises.
    """
    free = [Scratch() for _ in range(READERS + 1)]
    waiting: deque[tuple[Future[Read], int]] = deque()

    def read(rule: Rule, scratch: Scratch) -> Read:
        scratch.start()
        room = None if rule.keeps else scratch
        return rule, [source.read(name, room) for name in rule.theirs], scratch

    with ThreadPoolExecutor(READERS, thread_name_prefix="read-ahead") as pool:
        try:
            for rule in rules:
                size = sum(4 * prod(source.header.shapes[name]) for name in rule.theirs)
                while waiting and (not free or size + sum(held for _, held in waiting) > AHEAD):
                    done = waiting.popleft()[0].result()
                    yield done
                    done[2].start()
                    free.append(done[2])
                waiting.append((pool.submit(read, rule, free.pop()), size))
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            pool.shutdown(cancel_futures=True)

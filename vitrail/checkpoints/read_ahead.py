"""Reads the tensors of the next rules while those of one are rearranged.

Two threads read and check (both leave Python's lock alone), the caller's rearranges. At most three
rules' tensors are in memory beside what is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from torch import Tensor

from vitrail.checkpoints.scratch import Scratch

if TYPE_CHECKING:
    from vitrail.checkpoints.rules import Rule, TensorSource

READERS = 2
Read = tuple["Rule", list[Tensor], Scratch]


def read_ahead(source: TensorSource, rules: Iterable[Rule]) -> Iterator[Read]:
    """Each rule with its tensors, in order, and the scratch memory that may hold them until the
    next rule is asked for. Raises what `source.read` raises.
    """
    free = [Scratch() for _ in range(READERS + 1)]
    waiting: deque[Future[Read]] = deque()

    def read(rule: Rule, scratch: Scratch) -> Read:
        scratch.start()
        room = None if rule.keeps else scratch
        return rule, [source.read(name, room) for name in rule.theirs], scratch

    with ThreadPoolExecutor(READERS, thread_name_prefix="read-ahead") as pool:
        try:
            for rule in rules:
                waiting.append(pool.submit(read, rule, free.pop()))
                if not free:
                    done = waiting.popleft().result()
                    yield done
                    free.append(done[2])
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

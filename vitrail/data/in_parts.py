"""A batch in equal parts, each by a thread of its own.

Augmenting small pictures is many short operations; torch's own threads would meet after each of
them, and most are too short to share. Here a thread does all of them for its part, and torch uses
one thread inside. What happens to a picture does not depend on its part, so neither do the bits.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import torch
from torch import Tensor

LEAST = 256  # pictures of a part; fewer are not worth a thread


def in_parts(work: Callable[[slice], Tensor], num: int, device: torch.device) -> Tensor:
    """`work` on slices of range(num), joined along the first axis; as many as torch has threads."""
    parts = min(torch.get_num_threads(), num // LEAST) if device.type == "cpu" else 1
    if parts < 2:
        return work(slice(0, num))
    bounds = [part * num // parts for part in range(parts + 1)]
    slices = [slice(first, last) for first, last in zip(bounds, bounds[1:], strict=False)]
    return torch.cat(list(_pool(parts).map(work, slices)))


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    """Threads in which torch uses one thread. The number of threads is the calling thread's own
    (OpenMP), but setting it also changes what threads to come begin with: so it is set back here.
    """
    here, all_there = torch.get_num_threads(), Barrier(size + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        all_there.wait()

    pool = ThreadPoolExecutor(size, thread_name_prefix="augment", initializer=begin)
    for _ in range(size):
        pool.submit(int)
    all_there.wait()
    torch.set_num_threads(here)
    return pool

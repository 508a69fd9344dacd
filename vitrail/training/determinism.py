"""Same seed, same bits: what is switched on for it (docs/reliability.md R6), and off again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def make_deterministic(device: torch.device) -> None:
    """Ask CUDA for kernels that give the same bits every time; a CPU's do, threads being fixed."""
    if device.type == "cuda":
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Leave the process as it was before the block: threads, deterministic mode, the default
    generators (of a GPU where it was in use). That freed memory stays with the process does stay.
    """
    threads, workspace = torch.get_num_threads(), os.environ.get(WORKSPACE)
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    generator = torch.get_rng_state()
    is_used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    of_gpus = torch.cuda.get_rng_state_all() if is_used else []
    try:
        yield
    finally:
        torch.set_rng_state(generator)
        torch.cuda.set_rng_state_all(of_gpus)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_deterministic, warn_only=warns)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        else:
            os.environ[WORKSPACE] = workspace

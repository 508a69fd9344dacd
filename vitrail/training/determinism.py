"""Same seed, same bits: what has to be switched on for it (docs/reliability.md R6)."""

from __future__ import annotations

import os

import torch


def make_deterministic(device: torch.device) -> None:
    """Ask CUDA for kernels that give the same bits every time; a CPU's do, threads being fixed."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)

"""Small checkpoints for the tests of saving: their tensors are a function of the step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.training.crash_fs import MemoryFiles
from vitrail.runs.filesystem import LocalFiles
from vitrail.training.storage.checkpoint import save_checkpoint

RUN = Path("/run")


def tensors_of(step: int) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return {
        "model": {
            "head.weight": torch.randn(3, 5, generator=generator),
            "head.bias": torch.randn(3, generator=generator),
        },
        "optim": {
            "exp_avg/head.weight": torch.randn(3, 5, generator=generator),
            "step/head.bias": torch.tensor(float(step)),
        },
    }


def save(step: int, fs: LocalFiles, run_dir: Path = RUN, **options: Any) -> Path:
    return save_checkpoint(run_dir, step, tensors_of(step), {"step": step}, fs=fs, **options)


def same(found: Mapping[str, Mapping[str, Tensor]], step: int) -> bool:
    expected = tensors_of(step)
    return found.keys() == expected.keys() and all(
        torch.equal(value, found[file][name])
        for file, values in expected.items()
        for name, value in values.items()
    )


def in_memory(*steps: int) -> MemoryFiles:
    files = MemoryFiles({"run": {}})
    for step in steps:
        save(step, files)
    return files

"""Small checkpoints for the tests of saving: their tensors are a function of the step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.training.crash_fs import MemoryFiles
from vitrail.runs.filesystem import LocalFiles
from vitrail.runs.stored import place_of
from vitrail.training.storage.checkpoint import (
    abandon,
    as_fault,
    is_saved,
    save_checkpoint,
    temporary_name,
)
from vitrail.training.storage.share_files import commit_shares, deal, sizes_of, write_share

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


def save_in_shares(
    step: int,
    fs: LocalFiles,
    world: int = 2,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
    state: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """What `world` processes do with a checkpoint, one after the other."""
    tensors = tensors_of(step) if tensors is None else tensors
    sizes, temporary = sizes_of(tensors), temporary_name(step)
    with as_fault(place_of(RUN, step), fs):
        if is_saved(RUN, step, damaged=options.get("damaged", ()), fs=fs):
            return place_of(RUN, step)
    try:
        shares = [
            write_share(RUN, temporary, rank, world, share, step=step, fs=fs)
            for rank, share in enumerate(shares_of(tensors, world))
        ]
        state = {"step": step} if state is None else state
        return commit_shares(RUN, temporary, shares, sizes, state, step=step, fs=fs, **options)
    except BaseException:
        abandon(fs, RUN / "checkpoints" / temporary)
        raise


def shares_of(
    tensors: Mapping[str, Mapping[str, Tensor]], world: int
) -> list[dict[str, dict[str, Tensor]]]:
    """The tensors of each process."""
    owners = deal(sizes_of(tensors), world)
    return [
        {
            kind: {name: one for name, one in values.items() if owners[f"{kind}/{name}"] == rank}
            for kind, values in tensors.items()
        }
        for rank in range(world)
    ]


def same(found: Mapping[str, Mapping[str, Tensor]], step: int) -> bool:
    expected = tensors_of(step)
    return found.keys() == expected.keys() and all(
        torch.equal(value, found[file][name])
        for file, values in expected.items()
        for name, value in values.items()
    )


def in_memory(*steps: int, world: int = 1) -> MemoryFiles:
    """A run with checkpoints; of several processes, in shares."""
    files = MemoryFiles({"run": {}})
    for step in steps:
        if world == 1:
            save(step, files)
        else:
            save_in_shares(step, files, world)
    return files

"""A checkpoint that several processes write: equal shares of complete tensors, one manifest.

Which process writes which tensor is a function of names, sizes and the number of processes. Each
writes its share into the same temporary directory, a file a kind, makes it durable and says what
it wrote (`Written`, plain JSON). When all have, the first one writes state and manifest and renames
the directory, as one process does with its own (`checkpoint.py`): until then there is nothing under
the checkpoint's name. Reading does not depend on how many wrote it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vitrail.errors import EnvironmentFault
from vitrail.runs.filesystem import FILES, LocalFiles
from vitrail.runs.manifest import IN_SHARES, FileEntry, Manifest, share_name
from vitrail.runs.stored import place_of
from vitrail.spelling import count
from vitrail.training.storage.checkpoint import (
    as_fault,
    check_keep,
    commit,
    settle,
    write_tensors,
)

Sizes = Mapping[str, int]  # "KIND/NAME" -> bytes


class Written(BaseModel):
    """What a process wrote: its files, and the file of each of its tensors ("KIND/NAME")."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    files: dict[Annotated[str, Field(max_length=100)], FileEntry]
    tensors: dict[str, str]


def sizes_of(files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, int]:
    """Bytes of each tensor, also where this process has a part of it only."""
    return {
        f"{kind}/{name}": value.numel() * value.element_size()
        for kind, tensors in files.items()
        for name, value in tensors.items()
    }


def deal(sizes: Sizes, world: int) -> dict[str, int]:
    """Which of `world` processes writes each tensor: the largest first, each to the one that has
    least, so that shares differ by the largest tensor at most.
    """
    loads, owners = [0] * world, {}
    for name in sorted(sizes, key=lambda one: (-sizes[one], one)):
        owner = min(range(world), key=lambda rank: (loads[rank], rank))
        owners[name] = owner
        loads[owner] += sizes[name]
    return owners


def write_share(
    run_dir: Path,
    temporary: str,
    rank: int,
    world: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    *,
    step: int,
    fs: LocalFiles = FILES,
) -> Written:
    """Write the share of process `rank` into the directory `temporary` of the run's checkpoints,
    which the quickest process makes; what was written, durably.

    Raises EnvironmentFault VIT-506.
    """
    final = place_of(run_dir, step)
    directory = final.parent / temporary
    with as_fault(final, fs):
        for folder in (final.parent, directory):
            with suppress(FileExistsError):
                fs.make_dir(folder)
        mine = {share_name(kind, rank, world): values for kind, values in tensors.items() if values}
        files = write_tensors(fs, directory, mine)
        fs.sync_dir(directory)
    places = {
        f"{kind}/{name}": share_name(kind, rank, world)
        for kind, values in tensors.items()
        for name in values
    }
    return Written(files=files, tensors=places)


def commit_shares(
    run_dir: Path,
    temporary: str,
    shares: Sequence[Written],
    names: Collection[str],
    state: Mapping[str, Any],
    *,
    step: int,
    keep: int = 2,
    protect: Collection[int] = (),
    damaged: Collection[str] = (),
    fs: LocalFiles = FILES,
) -> Path:
    """Let what all processes wrote be the checkpoint of `step`; its directory, once it is durable
    and was read back. names: every "KIND/NAME" that it has to hold; the rest as `save_checkpoint`.

    Raises EnvironmentFault VIT-506, VIT-508.
    """
    check_keep(keep)
    final = place_of(run_dir, step)
    files = {name: entry for share in shares for name, entry in share.files.items()}
    tensors = {name: file for share in shares for name, file in share.tensors.items()}
    written = sum(len(share.tensors) for share in shares)
    if tensors.keys() != set(names) or written != len(tensors):
        raise EnvironmentFault(
            "VIT-506",
            f"checkpoint {final} could not be written: the processes wrote "
            f"{count(written, 'tensor')}, expected {len(names)}; they do not run the same code or "
            "do not train the same model.",
            hint=f"Install the same version on all machines, then go on with --resume {run_dir}",
        )
    with as_fault(final, fs):
        plan = Manifest(step=step, parent=None, config_hash="", files=files, tensors=tensors)
        plan = plan.model_copy(update={"schema_number": IN_SHARES})
        fs.sync_dir(run_dir)
        commit(fs, final.parent / temporary, plan, state, damaged)
        settle(fs, final, keep=keep, protect=protect, damaged=damaged)
    return final

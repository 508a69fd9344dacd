"""Checkpoints that survive a power cut: written beside, made durable, renamed, read back, and only
then pruned.

Protocol (docs/reliability.md, section 4.1): all files go into `.tmp-STEP-PID-RANDOM/`, each is
fsynced, MANIFEST.json is last, the directory is fsynced, renamed to `step-NNNNNNNN` and its parent
fsynced. Whatever moment the machine stops, `load_latest` finds the checkpoint before or the new
one, whole; once `save_checkpoint` has returned it finds the new one. A failed fsync is a failed
checkpoint: it is not tried again, because the kernel may have dropped the pages it could not write.
No pickle: tensors are safetensors, the rest is JSON.

The caller holds the run's lock (`vitrail.runs.lock`): one process writes a run.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.errors import EnvironmentFault, ModelError
from vitrail.runs import manifest as manifests
from vitrail.runs.filesystem import FILES, LocalFiles, remove_tree
from vitrail.runs.manifest import Damaged, FileEntry, Manifest, step_name
from vitrail.runs.stored import (
    STATE,
    list_steps,
    place_of,
    read_state,
    read_tensors,
    unreadable,
)
from vitrail.training.storage.tensor_file import pieces, write_file

REHASH_BELOW_BYTES = 500_000_000
HINTS = {
    errno.ENOSPC: "Free some disk space",
    errno.EDQUOT: "Free some of your disk quota",
    errno.EROFS: "Make the file system writable",
    errno.EACCES: "Make the folder writable",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
}


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint in memory. damaged: newer ones that could not be used, newest first, with the
    reason.
    """

    step: int
    path: Path
    tensors: dict[str, dict[str, Tensor]]  # "model", "optim", maybe "ema": name -> tensor
    state: dict[str, Any]
    damaged: tuple[tuple[str, str], ...] = ()

    def warnings(self) -> list[str]:
        """One message (VIT-405) for each damaged checkpoint that was passed over."""
        return [
            f"VIT-405: checkpoint {name} is damaged ({reason}); "
            f"continuing from {step_name(self.step)}."
            for name, reason in self.damaged
        ]


def save_checkpoint(
    run_dir: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
    protect: Collection[int] = (),
    damaged: Collection[str] = (),
    fs: LocalFiles = FILES,
) -> Path:
    """Write checkpoint `step` of the run; returns its directory once it is durable and was read
    back.

    tensors: {"model": {...}, "optim": {...}, "ema": {...}}, one safetensors file each. state: JSON
    values; its "config_hash" goes into the manifest too. keep: newest checkpoints that stay (>= 2),
    beside those of the steps in `protect`. damaged: names that `load_latest` reported; they do not
    count. A whole checkpoint of this step that exists already is left as it is.

    Raises EnvironmentFault VIT-506 (disk full or failing) or VIT-508 (read back differently); the
    checkpoints before it are then still there.
    """
    check_keep(keep)
    final = place_of(run_dir, step)
    with as_fault(final, fs):
        if is_saved(run_dir, step, damaged=damaged, fs=fs):
            return final
        temporary = final.parent / temporary_name(step)
        try:
            fs.make_dir(temporary)
            files = write_tensors(
                fs, temporary, {f"{name}.safetensors": values for name, values in tensors.items()}
            )
            plan = Manifest(step=step, parent=None, config_hash="", files=files)
            commit(fs, temporary, plan, state, damaged)
        except BaseException:
            abandon(fs, temporary)
            raise
        settle(fs, final, keep=keep, protect=protect, damaged=damaged)
    return final


def check_keep(keep: int) -> None:
    """Raise ValueError where too few checkpoints would be kept."""
    if keep < 2:
        raise ValueError(
            f"keep must be at least 2, got {keep}: the newest may be the one that is damaged"
        )


def is_saved(
    run_dir: Path, step: int, *, damaged: Collection[str] = (), fs: LocalFiles = FILES
) -> bool:
    """Make room for checkpoints; whether that of `step` is there already, whole and durable.
    damaged: names that do not count.
    """
    folder, final = run_dir / "checkpoints", place_of(run_dir, step)
    if not fs.is_dir(folder):
        with suppress(FileExistsError):  # another process of the run was quicker
            fs.make_dir(folder)
    fs.sync_dir(run_dir)
    if not fs.is_dir(final) or final.name in damaged or not _is_whole(fs, final):
        return False
    fs.sync_dir(folder)  # a run killed just after the rename did not get so far
    return True


def temporary_name(step: int) -> str:
    """A name for what becomes the checkpoint of `step`, which nobody else takes."""
    return f".tmp-{step_name(step)}-{_unique()}"


def write_tensors(
    fs: LocalFiles, directory: Path, files: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, FileEntry]:
    """Write files of tensors and make each durable; what the manifest says of them."""
    found = {}
    for name, values in files.items():
        size, digest = write_file(fs, directory / name, pieces(values))
        found[name] = FileEntry(bytes=size, sha256=digest)
    return found


def commit(
    fs: LocalFiles,
    temporary: Path,
    plan: Manifest,
    state: Mapping[str, Any],
    damaged: Collection[str],
) -> None:
    """Let the files of tensors in `temporary`, which are durable and listed in `plan`, be the
    checkpoint of its step. Raises OSError.
    """
    folder, final = temporary.parent, temporary.parent / step_name(plan.step)
    parent = max((one for one in _usable(folder, damaged, fs) if one < plan.step), default=None)
    text = json.dumps(dict(state), indent=1, sort_keys=True).encode() + b"\n"
    size, digest = write_file(fs, temporary / STATE, iter([text]))
    files = {**plan.files, STATE: FileEntry(bytes=size, sha256=digest)}
    config_hash = str(state.get("config_hash", ""))
    complete = plan.model_copy(
        update={"files": files, "parent": parent, "config_hash": config_hash}
    )
    write_file(fs, temporary / manifests.NAME, iter([manifests.encode(complete)]))
    fs.sync_dir(temporary)
    if fs.is_dir(final):  # damaged; os.rename would refuse
        fs.rename(final, folder / f".trash-{final.name}-{_unique()}")
    fs.rename(temporary, final)
    fs.sync_dir(folder)


def abandon(fs: LocalFiles, temporary: Path) -> None:
    """Remove what was not finished, as far as the disk lets."""
    with suppress(OSError):
        if fs.is_dir(temporary):
            remove_tree(fs, temporary)


def settle(
    fs: LocalFiles,
    final: Path,
    *,
    keep: int,
    protect: Collection[int],
    damaged: Collection[str],
) -> None:
    """Read a durable checkpoint back, and prune those before it. Raises EnvironmentFault VIT-508,
    OSError.
    """
    _read_back(fs, final)
    prune(final.parents[1], keep=keep, protect=protect, damaged=damaged, fs=fs)


def _read_back(fs: LocalFiles, final: Path) -> None:
    try:
        written = manifests.verify(fs, final, hashes=False)
        if written.total_bytes < REHASH_BELOW_BYTES:
            manifests.verify(fs, final)
    except Damaged as error:
        raise EnvironmentFault(
            "VIT-508",
            f"{final}: read back differently from what was written ({error}).",
            hint="The disk or file system loses data: use another one. Checkpoints before this one "
            "are untouched; continue with --resume once it is replaced.",
        ) from None


def load_latest(run_dir: Path, *, fs: LocalFiles = FILES) -> Checkpoint | None:
    """The newest whole checkpoint of a run; None where there is none at all.

    Damaged ones are left in place and named in `.damaged`. Raises ModelError VIT-405 where every
    one is damaged and EnvironmentFault VIT-507 where the fault is not the files' (no right to read,
    too many open files).
    """
    damaged: list[tuple[str, str]] = []
    try:
        for step in reversed(list_steps(run_dir, fs=fs)):
            directory = place_of(run_dir, step)
            try:
                return _load(fs, directory, tuple(damaged))
            except Damaged as error:
                damaged.append((directory.name, str(error)))
    except OSError as error:
        raise unreadable(run_dir / "checkpoints", error) from error
    if not damaged:
        return None
    lines = "\n".join(f"  {name}: {reason}" for name, reason in damaged)
    raise ModelError(
        "VIT-405",
        f"{run_dir}: no checkpoint can be used:\n{lines}",
        hint="Restore one of these folders from a backup. Or let the run begin again: remove "
        f"{run_dir / 'checkpoints'}, then vitrail train --resume {run_dir} comes to the same end. "
        "Or start a new run.",
    )


def _load(fs: LocalFiles, directory: Path, damaged: tuple[tuple[str, str], ...]) -> Checkpoint:
    """Raises Damaged."""
    manifest = manifests.verify(fs, directory)
    state = read_state(fs, directory)
    tensors = {kind: read_tensors(fs, directory, manifest, kind) for kind in manifest.kinds}
    return Checkpoint(manifest.step, directory, tensors, state, damaged)


def prune(
    run_dir: Path,
    *,
    keep: int = 2,
    protect: Collection[int] = (),
    damaged: Collection[str] = (),
    fs: LocalFiles = FILES,
) -> list[int]:
    """Remove all but the newest `keep` whole checkpoints and those of `protect`; returns the steps
    that went.

    Call it only when the newest is durable. A directory is renamed to `.trash-` first, so that a
    half-removed one is never taken for a checkpoint; what cannot be deleted is left for `sweep`.
    """
    folder = run_dir / "checkpoints"
    steps = _usable(folder, damaged, fs)
    going = [step for step in steps[:-keep] if step not in protect]
    for step in going:
        fs.rename(folder / step_name(step), folder / f".trash-{step_name(step)}-{_unique()}")
    if going:
        fs.sync_dir(folder)
    sweep(run_dir, fs=fs)
    return going


def sweep(run_dir: Path, *, fs: LocalFiles = FILES) -> list[str]:
    """Remove what stopped runs left half-written or half-removed; returns the names that could not
    be removed.

    Call it with the run's lock held and no save under way: every such directory is then a dead
    run's.
    """
    folder = run_dir / "checkpoints"
    left = []
    for name in fs.names(folder):
        if name.startswith((".tmp-", ".trash-")):
            try:
                remove_tree(fs, folder / name)
            except (
                OSError
            ):  # held open on a network store, or the disk is failing: the next save will tell
                left.append(name)
    return left


def check_disk(run_dir: Path, checkpoint_bytes: int, *, fs: LocalFiles = FILES) -> None:
    """Refuse to start a run whose checkpoints would not fit: 2 kept and 1 being written. Raises
    VIT-505.
    """
    free = fs.free_bytes(run_dir)
    if free < 3 * checkpoint_bytes:
        raise EnvironmentFault(
            "VIT-505",
            f"{run_dir}: {free / 1e6:,.0f} MB of disk are free; checkpoints of this run "
            f"need {3 * checkpoint_bytes / 1e6:,.0f} MB (3 of "
            f"{checkpoint_bytes / 1e6:,.1f} MB).",
            hint="Free some disk space, write elsewhere with --out, or choose a smaller model.",
        )


def checkpoint_bytes(num_parameters: int, optimizer: str, *, ema: bool) -> int:
    """Predicted bytes of one checkpoint: float32 weights, the optimiser's running tensors, averaged
    weights.
    """
    running = {"sgd": 1, "schedule_free": 3}.get(optimizer, 2)
    return 4 * num_parameters * (1 + running + int(ema)) + 200_000


def _usable(folder: Path, damaged: Collection[str], fs: LocalFiles) -> list[int]:
    """Steps, ascending, of the checkpoints whose manifest and sizes are right."""
    return [
        step
        for step in list_steps(folder.parent, fs=fs)
        if step_name(step) not in damaged and _is_whole(fs, folder / step_name(step), hashes=False)
    ]


def _is_whole(fs: LocalFiles, directory: Path, *, hashes: bool = True) -> bool:
    try:
        manifests.verify(fs, directory, hashes=hashes)
    except Damaged:
        return False
    return True


def _unique() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def as_fault(final: Path, fs: LocalFiles) -> Iterator[None]:
    """Turn an OSError into EnvironmentFault VIT-506, which says what is still there."""
    try:
        yield
    except OSError as error:
        try:
            steps = [
                step
                for step in list_steps(final.parents[1], fs=fs)
                if step_name(step) != final.name
            ]
        except OSError:
            steps = []
        rest = (
            f"{step_name(steps[-1])} is intact."
            if steps
            else "There is no checkpoint of this run yet."
        )
        hint = HINTS.get(error.errno or 0, "Check the disk")
        raise EnvironmentFault(
            "VIT-506",
            f"checkpoint {final} could not be written: {error.strerror or error}. {rest}",
            hint=f"{hint}, then go on with --resume {final.parents[1]}",
        ) from error

"""R2: every state a power cut may leave while the real save code runs loads as the old or the new
checkpoint, whole; once `save_checkpoint` has returned it loads as the new one. Saves without fsync
must fail the same check."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.crash_fs import CrashState, MemoryFiles, Tree, crash_states, freeze, materialise
from tests.training.saving import shares_of
from vitrail.errors import ModelError
from vitrail.runs.filesystem import LocalFiles
from vitrail.runs.manifest import step_name, verify
from vitrail.runs.stored import list_steps
from vitrail.training.storage.checkpoint import (
    Checkpoint,
    is_saved,
    load_latest,
    save_checkpoint,
    sweep,
    temporary_name,
)
from vitrail.training.storage.metrics_log import MetricsLog
from vitrail.training.storage.share_files import commit_shares, sizes_of, write_share

RUN = Path("/run")
LOG = RUN / "metrics.jsonl"


def tensors_of(step: int) -> dict[str, dict[str, Tensor]]:
    """A checkpoint's tensors, all different between steps."""
    return {
        "model": {
            "head.weight": torch.full((3, 5), float(step)),
            "head.bias": torch.arange(3.0) + step,
        },
        "optim": {
            "exp_avg/head.weight": torch.full((3, 5), -float(step)),
            "step/head.bias": torch.tensor(float(step)),
        },
        "ema": {"head.weight": torch.full((3, 5), step / 2)},
    }


def line_of(step: int) -> dict[str, int]:
    return {"step": step, "train/loss": 1000 - step}


def begin(files: MemoryFiles) -> None:
    """An empty run directory that is durable."""
    files.make_dir(RUN)
    files.sync_dir(Path("/"))


def advance(files: MemoryFiles, log: MetricsLog, step: int, world: int = 1, **options: Any) -> None:
    """What a run of `world` processes does at a checkpoint: log, make the log durable, save."""
    files.mark(("start", step))
    log.write(line_of(step))
    state = {"step": step, "metrics_bytes": log.sync().offset, "config_hash": "abc"}
    if world == 1:
        save_checkpoint(RUN, step, tensors_of(step), state, fs=files, **options)
    else:
        save_together(files, step, world, state)
    files.mark(("saved", step))


def save_together(files: MemoryFiles, step: int, world: int, state: dict[str, Any]) -> None:
    """Shares that are written at the same time: the calls of all processes in a random order, each
    process's own in theirs. The last one has nothing to write.
    """
    assert not is_saved(RUN, step, fs=files)
    tensors, temporary = tensors_of(step), temporary_name(step)
    shares = [write_share(RUN, temporary, world, world + 1, {}, step=step, fs=files)]
    calls = []
    for rank, share in enumerate(shares_of(tensors, world)):
        begun = len(files.log)
        shares.append(write_share(RUN, temporary, rank, world + 1, share, step=step, fs=files))
        calls.append(files.log[begun:])
        del files.log[begun:]
    chance = random.Random(step)
    turns = [rank for rank, own in enumerate(calls) for _ in own]
    chance.shuffle(turns)
    ways = [iter(own) for own in calls]
    files.log += [next(ways[rank]) for rank in turns]
    commit_shares(RUN, temporary, shares, sizes_of(tensors), state, step=step, fs=files)


def record(files: MemoryFiles, steps: int, world: int = 1) -> MemoryFiles:
    begin(files)
    log = MetricsLog(LOG, fs=files)
    for step in range(1, steps + 1):
        advance(files, log, step, world)
    return files


def record_with_damage(files: MemoryFiles) -> MemoryFiles:
    """Two saves, a byte lost from the second, a resume from the first, the second saved again."""
    begin(files)
    log = MetricsLog(LOG, fs=files)
    advance(files, log, 1)
    advance(files, log, 2)
    flipped = RUN / "checkpoints" / "step-00000002" / "optim.safetensors"
    files.mark(("damaged", 2))
    files.truncate(flipped, files.size(flipped) - 1)
    found = load_latest(RUN, fs=files)
    assert found is not None
    log.cut_back(found.state["metrics_bytes"])
    advance(files, log, 2, damaged=[name for name, _ in found.damaged])
    advance(files, log, 3)
    return files


@dataclass
class Tally:
    """Distinct states, and those that broke a promise."""

    states: int = 0
    neither: int = 0
    lost: int = 0


def examine(files: MemoryFiles, *, weak: bool, every: int = 1) -> tuple[Tally, list[CrashState]]:
    """Load every distinct crash state with the real loader; returns the counts and a sample of the
    states.
    """
    tally, seen, sample = Tally(), set(), []
    for number, state in enumerate(crash_states(files, weak=weak)):
        key = (_obligation(state), freeze(state.tree))
        if number % every or key in seen:
            continue
        seen.add(key)
        tally.states += 1
        verdict = judge(state)
        tally.neither += verdict == "neither"
        tally.lost += verdict == "lost"
        if tally.states % 50 == 1:
            sample.append(state)
    return tally, sample


def _obligation(state: CrashState) -> tuple[int, int]:
    """(step that must not be lost, step that may be there), 0 for none."""
    kept = begun = 0
    for what, step in state.marks:
        if what == "saved":
            kept = step
        elif what == "damaged":
            kept = step - 1
        begun = step if what == "start" else begun
    return kept, begun


def judge(state: CrashState) -> str:
    """Whether a state loads as "old or new", or as "neither", or has "lost" what a returned save
    had written.
    """
    kept, begun = _obligation(state)
    files = MemoryFiles(state.tree)
    try:
        found = load_latest(RUN, fs=files)
    except ModelError:
        return "neither"
    step = found.step if found else 0
    if step < kept:
        return "lost"
    if step not in (kept, begun):
        return "neither"
    return "old or new" if found is None or is_exact(found, files) else "neither"


def is_exact(found: Checkpoint, files: MemoryFiles) -> bool:
    """Whether every bit is what was saved at that step, and the log up to there is whole."""
    expected = tensors_of(found.step)
    same = expected.keys() == found.tensors.keys() and all(
        expected[name].keys() == found.tensors[name].keys()
        and all(
            torch.equal(value, found.tensors[name][key]) for key, value in expected[name].items()
        )
        for name in expected
    )
    offset = found.state["metrics_bytes"]
    lines = "".join(json.dumps(line_of(step)) + "\n" for step in range(1, found.step + 1)).encode()
    logged = b"".join(files.chunks(LOG))[:offset] if LOG.name in files.names(RUN) else b""
    return same and found.state["step"] == found.step and logged == lines


@pytest.mark.promise("R2")
@pytest.mark.parametrize(("steps", "world"), [(6, 1), (5, 2), (5, 3)])
def test_every_crash_state_loads_as_old_or_new(steps: int, world: int) -> None:
    recorded = record(MemoryFiles(), steps, world)
    ordered, _ = examine(recorded, weak=False)
    weak, _ = examine(recorded, weak=True)
    assert (ordered.neither, ordered.lost) == (0, 0)
    assert (weak.neither, weak.lost) == (0, 0)
    assert ordered.states + weak.states >= 2000, (ordered, weak)


@pytest.mark.promise("R2")
def test_saving_over_a_damaged_checkpoint_is_as_safe() -> None:
    recorded = record_with_damage(MemoryFiles())
    for weak in (False, True):
        tally, _ = examine(recorded, weak=weak)
        assert (tally.neither, tally.lost) == (0, 0), tally
        assert tally.states > 200


@pytest.mark.slow
@pytest.mark.promise("R2")
def test_a_long_run_with_pruning() -> None:
    recorded = record(MemoryFiles(), steps=25)
    tally, _ = examine(recorded, weak=True)
    assert (tally.neither, tally.lost) == (0, 0), tally
    assert tally.states > 10_000


class NoSync(MemoryFiles):
    """Forgets fsync of files, of directories, or of both."""

    def __init__(self, *, files: bool, directories: bool) -> None:
        super().__init__()
        self._files, self._directories = files, directories

    def sync(self, fd: int) -> None:
        if self._files:
            super().sync(fd)

    def sync_dir(self, path: Path) -> None:
        if self._directories or path == Path("/"):
            super().sync_dir(path)


@pytest.mark.promise("R2")
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize(("files", "directories"), [(False, False), (False, True), (True, False)])
def test_a_save_without_fsync_fails_the_same_check(
    files: bool, directories: bool, world: int
) -> None:
    recorded = record(NoSync(files=files, directories=directories), 2, world)
    tally, _ = examine(recorded, weak=True, every=3)
    assert tally.lost > 0


class PrunesFirst(MemoryFiles):
    """Puts off every fsync of a directory until something was removed: the order of protocol H."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[Path] = []

    def sync_dir(self, path: Path) -> None:
        if path.name == "checkpoints":
            self._waiting.append(path)
        else:
            super().sync_dir(path)

    def remove(self, path: Path) -> None:
        super().remove(path)
        for waiting in self._waiting:
            super().sync_dir(waiting)
        self._waiting.clear()


@pytest.mark.promise("R2")
def test_pruning_before_the_new_one_is_durable_fails_the_same_check() -> None:
    tally, _ = examine(record(PrunesFirst(), steps=4), weak=True, every=2)
    assert tally.lost + tally.neither > 0


def runs_on_from(state: CrashState) -> Iterator[CrashState]:
    """What a power cut during the recovery from another may leave: sweep, resume, save the next
    step.
    """
    files = MemoryFiles()
    _refill(files, state.tree, Path("/"))
    kept, _ = _obligation(state)
    found = load_latest(RUN, fs=files)
    step = found.step if found else 0
    files.mark(("saved", max(kept, step)))
    sweep(RUN, fs=files)
    log = MetricsLog(LOG, fs=files)
    log.cut_back(found.state["metrics_bytes"] if found else 0)
    advance(files, log, step + 1)
    begun = False
    for after in crash_states(files, weak=False):
        begun = begun or bool(after.marks)
        if begun:
            yield after


def _refill(files: MemoryFiles, tree: Tree, folder: Path) -> None:
    """Write a tree through the file system, durably."""
    for name, value in tree.items():
        if isinstance(value, dict):
            files.make_dir(folder / name)
            _refill(files, value, folder / name)
        else:
            fd = files.create(folder / name)
            files.write(fd, memoryview(value))
            files.sync(fd)
            files.close(fd)
    files.sync_dir(folder)


@pytest.mark.promise("R2")
def test_a_second_power_cut_during_recovery() -> None:
    _, sample = examine(record(MemoryFiles(), steps=3), weak=True)
    states = [
        after for state in sample[::4] if "run" in state.tree for after in runs_on_from(state)
    ]
    assert len(states) > 200
    assert {judge(state) for state in states} == {"old or new"}


@pytest.mark.promise("R2")
def test_states_load_the_same_from_a_real_disk(tmp_path: Path) -> None:
    _, sample = examine(record(MemoryFiles(), steps=3), weak=True)
    for number, state in enumerate(sample[::2]):
        folder = tmp_path / str(number)
        folder.mkdir()
        materialise(state.tree, folder)
        real = load_latest(folder / "run", fs=LocalFiles())
        model = load_latest(RUN, fs=MemoryFiles(state.tree))
        assert (real and real.step, real and real.state) == (
            model and model.step,
            model and model.state,
        )
        assert real is None or all(
            torch.equal(value, real.tensors[name][key])
            for name, values in tensors_of(real.step).items()
            for key, value in values.items()
        )


def test_the_recording_file_system_behaves_like_the_real_one(tmp_path: Path) -> None:
    recorded = record(MemoryFiles(), steps=4).tree()["run"]
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(1, 5):
        log.write(line_of(step))
        state = {"step": step, "metrics_bytes": log.sync().offset, "config_hash": "abc"}
        save_checkpoint(tmp_path, step, tensors_of(step), state)
    log.close()
    real: Tree = {}
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        place = real
        *folders, name = path.relative_to(tmp_path).parts
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = path.read_bytes()
    assert freeze(recorded) == freeze(real)


@pytest.mark.promise("R2")
def test_no_crash_leaves_a_half_removed_checkpoint_under_its_name() -> None:
    checked = 0
    for number, state in enumerate(crash_states(record(MemoryFiles(), steps=4), weak=True)):
        files = MemoryFiles(state.tree)
        for step in list_steps(RUN, fs=files) if number % 3 == 0 else ():
            verify(files, RUN / "checkpoints" / step_name(step), hashes=False)
            checked += 1
    assert checked > 500


class Killed(BaseException):
    """What a SIGKILL is to the code: nothing runs after it."""


class KilledAfterRename(MemoryFiles):
    """Kills the process once, between the rename of step 2 and the fsync of its parent."""

    armed = True

    def sync_dir(self, path: Path) -> None:
        if self.armed and "step-00000002" in self.names(path):
            self.armed = False
            raise Killed
        super().sync_dir(path)


@pytest.mark.promise("R2")
def test_a_save_killed_after_its_rename_is_made_durable_by_the_next() -> None:
    files = KilledAfterRename()
    begin(files)
    log = MetricsLog(LOG, fs=files)
    advance(files, log, 1)
    with pytest.raises(Killed):
        advance(files, log, 2)
    found = load_latest(RUN, fs=files)  # the page cache survives the process
    assert found is not None
    assert found.step == 2
    save_checkpoint(RUN, 2, found.tensors, found.state, fs=files)
    files.mark(("saved", 2))
    tally, _ = examine(files, weak=True)
    assert (tally.neither, tally.lost) == (0, 0), tally


@pytest.mark.promise("R2")
def test_a_synced_log_survives_by_itself() -> None:
    files = MemoryFiles()
    begin(files)
    log = MetricsLog(LOG, fs=files)
    lengths = {0: 0}
    for step in (1, 2, 3):
        log.write(line_of(step))
        lengths[step] = log.sync().offset
        files.mark(("synced", step))
    whole = files.tree()["run"]["metrics.jsonl"]
    for state in crash_states(files, weak=True):
        step = max((step for what, step in state.marks if what == "synced"), default=0)
        kept = state.tree.get("run", {}).get("metrics.jsonl", b"")
        assert kept[: lengths[step]] == whole[: lengths[step]]

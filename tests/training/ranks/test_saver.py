"""Saves in the background: steps go on, failures are told, nothing overlaps, several agree."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.ranks.in_ranks import in_ranks
from tests.training.running import TINY, records, train, weights
from vitrail.errors import EnvironmentFault
from vitrail.runs.filesystem import FILES
from vitrail.runs.manifest import read
from vitrail.runs.stored import list_steps, place_of
from vitrail.training import loop, milestones
from vitrail.training.ranks import saver
from vitrail.training.ranks.ranks import Ranks, is_told
from vitrail.training.ranks.saver import Saver
from vitrail.training.reporter import RunResult
from vitrail.training.storage.checkpoint import load_latest, save_checkpoint

SECS = 20.0
SAVED = [3, 6, 9, 12]
STEPS = 13
FEW: dict[str, Any] = {"steps": STEPS, "eval_every_epochs": 9.0}  # no evaluation but the last


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that the run has done, as it does them."""
    done: list[int] = []
    update = milestones.update_window

    def count(*arguments: Any) -> None:
        done.append(len(done) + 1)
        update(*arguments)

    monkeypatch.setattr(loop, "update_window", count)
    return done


class Disk:
    """fsync of checkpoints, which a test holds up or lets fail; other threads' are left alone."""

    def __init__(self) -> None:
        self.open, self.code, self.calls = threading.Event(), 0, 0
        self.open.set()

    def sync(self, fd: int) -> None:
        if threading.current_thread().name == "save":
            self.calls += 1
            assert self.open.wait(SECS), "the run waits for a checkpoint"
            if self.code:
                raise OSError(self.code, os.strerror(self.code))
        os.fsync(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    found = Disk()
    monkeypatch.setattr(FILES, "sync", found.sync)
    yield found
    found.open.set()


@pytest.mark.promise("R2")
def test_steps_go_on_while_a_checkpoint_is_written(
    tmp_path: Path, disk: Disk, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk answers only once two steps were done behind the save; the bits are the same."""
    straight = train(tmp_path, "straight", **FEW).run_dir
    steps.clear()
    began = saver.in_background

    def hold(work: Any) -> Any:
        disk.open.clear()
        return began(work)

    monkeypatch.setattr(saver, "in_background", hold)
    ahead: list[int] = []
    go_on = Saver.go_on

    def watch(self: Saver, *, is_all_written: bool) -> None:
        if self._flight is not None and len(steps) + 1 >= self._flight.step + 2:
            ahead.append(self._flight.step)
            disk.open.set()
        go_on(self, is_all_written=is_all_written)

    monkeypatch.setattr(Saver, "go_on", watch)
    monkeypatch.setattr(Saver, "wait", opening(disk, Saver.wait))
    run = train(tmp_path, "background", **FEW).run_dir
    assert {3, 6, 9} <= set(ahead)
    assert records(run) == records(straight)
    assert weights(run) == weights(straight)
    assert load_latest(run).step == STEPS  # type: ignore[union-attr]


def opening(disk: Disk, wait: Any) -> Any:
    """`wait`, which a disk that was held up does not hold up."""

    def opened(self: Saver) -> None:
        disk.open.set()
        wait(self)

    return opened


@pytest.mark.promise("R3")
def test_a_save_that_failed_ends_the_run_at_its_next_step(
    tmp_path: Path, disk: Disk, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 3 is saved, step 6 is not; both are known when step 7 is done."""
    began = saver.in_background

    def known(work: Any) -> Any:
        disk.code = errno.ENOSPC if steps[-1] > SAVED[0] else 0
        found = began(work)
        found.exception()
        return found

    monkeypatch.setattr(saver, "in_background", known)
    with pytest.raises(EnvironmentFault, match="VIT-506") as error:
        train(tmp_path, **FEW)
    assert "--resume" in error.value.hint
    assert len(steps) == SAVED[1]  # and one that was done, and then not counted
    assert list_steps(tmp_path / "run") == [3]
    assert '"failed"' in (tmp_path / "run" / "run.json").read_text()
    disk.code = 0
    monkeypatch.setattr(saver, "in_background", began)
    assert loop.resume(tmp_path / "run", with_report=False).steps == STEPS


@pytest.mark.promise("R3")
def test_a_last_save_that_failed_is_told_at_the_end(tmp_path: Path, disk: Disk) -> None:
    disk.code = errno.EIO
    with pytest.raises(EnvironmentFault, match="VIT-506"):
        train(tmp_path, **FEW | {"steps": 4, "save_every_steps": 4})
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.promise("R11")
def test_two_saves_never_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save a step, each longer than a step."""
    running, most, number = 0, 0, 0
    write = save_checkpoint

    def watched(*arguments: Any, **options: Any) -> Path:
        nonlocal running, most, number
        running, number = running + 1, number + 1
        most = max(most, running)
        found = write(*arguments, **options)
        threading.Event().wait(0.05)
        running -= 1
        return found

    monkeypatch.setattr(saver, "save_checkpoint", watched)
    train(tmp_path, **FEW | {"save_every_steps": 1})
    assert (most, number) == (1, STEPS)


@pytest.mark.promise("R8")
def test_a_signal_waits_for_the_save_in_flight(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 3 is being written when SIGTERM comes at step 4: both are on the disk at the end."""
    done = 0

    def signalled(*arguments: Any) -> None:
        nonlocal done
        milestones.update_window(*arguments)
        done += 1
        if done == SAVED[0]:
            disk.open.clear()
        if done == SAVED[0] + 1:
            threading.Timer(0.3, disk.open.set).start()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "update_window", signalled)
    result = train(tmp_path, **FEW)
    assert (result.stopped, result.steps) == ("SIGTERM", 4)
    assert list_steps(tmp_path / "run") == [3, 4]


def test_without_room_for_a_copy_the_run_waits(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train(tmp_path, "straight", **FEW).run_dir
    monkeypatch.setattr(saver, "memory_bytes", lambda: 0)
    waited = []
    began = Saver._begin

    def begin(self: Saver, *arguments: Any, is_copied: bool) -> None:
        began(self, *arguments, is_copied=is_copied)
        waited.append(is_copied or (self._work is not None and self._work.done()))

    monkeypatch.setattr(Saver, "_begin", begin)
    run = train(tmp_path, "full", **FEW).run_dir
    assert waited == [True] * 5
    assert weights(run) == weights(straight)


SHARED: dict[str, Any] = {
    **TINY,
    **FEW,
    "steps": 9,
    "batch_size": 32,
    "optim.accumulate": 2,
    "exact": True,
    "ema": 0.9,
    "residual_baseline": False,
}


def shared(folder: Path, ranks: Ranks, name: str = "run") -> RunResult:
    return loop.train(
        [("test", SHARED)], runs_dir=folder, name=name, with_report=False, ranks=ranks
    )


def test_each_of_two_processes_writes_its_share(tmp_path: Path) -> None:
    assert [one.steps for one in in_ranks(tmp_path, 2, lambda ranks: shared(tmp_path, ranks))] == [
        9,
        9,
    ]
    last = load_latest(tmp_path / "run")
    assert last is not None
    written = read(FILES, place_of(tmp_path / "run", last.step))
    sizes = [
        sum(entry.bytes for name, entry in written.files.items() if f"-0000{rank}-of-" in name)
        for rank in (1, 2)
    ]
    largest = max(one.nbytes for values in last.tensors.values() for one in values.values())
    headers = 100 * len(written.tensors)  # names and offsets
    assert abs(sizes[0] - sizes[1]) <= largest + headers
    assert min(sizes) > 0.4 * sum(sizes)


@pytest.mark.promise("R3")
@pytest.mark.parametrize("broken", [0, 1])
def test_a_share_that_failed_ends_all_processes(tmp_path: Path, broken: int) -> None:
    """The disk of one of them is full from step 6 on: both end, step 3 is intact, and one process
    goes on from there."""

    def work(ranks: Ranks) -> tuple[str, bool]:
        begin = Saver._begin

        def full(self: Saver, flight: saver.InFlight, *rest: Any, is_copied: bool) -> None:
            if flight.step > SAVED[0] and ranks.rank == broken:
                setattr(FILES, "sync", raising)  # noqa: B010
            begin(self, flight, *rest, is_copied=is_copied)

        setattr(Saver, "_begin", full)  # noqa: B010
        try:
            shared(tmp_path, ranks)
        except EnvironmentFault as error:
            return error.code, is_told(error)
        return "", False

    found = in_ranks(tmp_path, 2, work)
    assert [code for code, _ in found] == ["VIT-506"] * 2, found
    assert [told for _, told in found].count(False) == 1
    assert list_steps(tmp_path / "run") == [3]
    assert loop.resume(tmp_path / "run", with_report=False).steps == 9


def raising(fd: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

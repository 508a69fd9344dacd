"""Checkpoints of a run, written in the background: a step waits for a copy, not for the disk.

`save` copies what a checkpoint stores into main memory and hands it to a thread; the run goes on.
Two saves never overlap: the next one, the end of the run and a signal wait for the one in flight.
A save that failed ends the run at its next step, or where it is waited for.

Among several processes each writes its share (`storage/share_files.py`). After a step all say
whether theirs is on the disk (`is_written`); once all are, they tell the first process what they
wrote (`go_on`), and it makes the checkpoint of it, in the background too. So threads never talk to
other processes, and a step that some wait for is one that all wait for.

Where main memory has no room for the copy, a save is written from the tensors of the run, which
waits for it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from vitrail.device import memory_bytes
from vitrail.errors import VitrailError
from vitrail.runs.filesystem import FILES, LocalFiles
from vitrail.runs.stored import place_of
from vitrail.training.ranks.ranks import Ranks, is_told, rebuilt, written
from vitrail.training.storage.checkpoint import (
    abandon,
    as_fault,
    is_saved,
    save_checkpoint,
    temporary_name,
)
from vitrail.training.storage.metrics_log import MetricsLog
from vitrail.training.storage.run_dir import RunDir
from vitrail.training.storage.share_files import (
    Written,
    commit_shares,
    deal,
    sizes_of,
    write_share,
)

Tensors = Mapping[str, Mapping[str, Tensor]]
ROOM = 0.8  # of the memory that is free, which a copy may take


class Saved(Protocol):
    """The state of a run, as far as it is saved (`training/state.py`)."""

    step: int
    best: dict[str, Any]
    is_sharded: bool

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint stores, by file."""

    def copied(self, is_kept: Callable[[str, str], bool]) -> dict[str, dict[str, Tensor]]:
        """Copies on the host of what is kept."""


@dataclass(frozen=True)
class InFlight:
    """A checkpoint that is being written. temporary: its directory until then, where it is in
    shares; names: every tensor that it holds; protect: steps whose checkpoints stay.
    """

    step: int
    record: dict[str, Any]
    protect: frozenset[int]
    temporary: str = ""
    names: frozenset[str] = frozenset()


@dataclass
class Saver:
    """Writes the checkpoints of a run; all its processes do the same with theirs."""

    run: RunDir
    ranks: Ranks
    metrics: MetricsLog
    say: Callable[[str], None]
    keep: int = 2
    damaged: Collection[str] = ()
    fs: LocalFiles = FILES
    _flight: InFlight | None = None
    _is_in_shares: bool = False  # a flight, before the first process makes a checkpoint of it
    _work: Future[Any] | None = field(default=None, repr=False)  # of this process

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, Exception):
            self._close(error)

    def save(self, state: Saved, record: dict[str, Any]) -> None:
        """Begin to write a checkpoint of `state`; record: what state.json says of it. Every process
        calls it after the same step.

        Raises what became of the save before it, EnvironmentFault VIT-506.
        """
        self.wait()
        protect = frozenset({state.best["step"]} if state.best else ())
        flight = InFlight(state.step, json.loads(json.dumps(record)), protect)
        if self.ranks.is_alone:
            tensors, is_copied = _copied(state, lambda *_: True)
            self._begin(flight, partial(self._write, flight, tensors), is_copied=is_copied)
            return
        temporary = self.ranks.tell(self._place(state.step) if self.ranks.is_first else None)
        if not temporary:  # a run killed just after it was saved: it is there
            self._note(flight)
            return
        sizes, rank = sizes_of(state.tensors()), self.ranks.rank
        owners = deal(sizes, self.ranks.world)
        with self.ranks.contact():
            tensors, is_copied = _copied(state, lambda *name: owners["/".join(name)] == rank)
        flight = replace(flight, temporary=temporary, names=frozenset(sizes))
        self._is_in_shares = True
        self._begin(flight, partial(self._write_share, flight, tensors), is_copied=is_copied)

    @property
    def is_written(self) -> bool:
        """Whether this process has written its share of a checkpoint in flight."""
        return self._is_in_shares and self._is_done and self.fault is None

    @property
    def fault(self) -> BaseException | None:
        """Why a checkpoint in flight could not be written, as far as this process knows."""
        return self._work.exception() if self._work is not None and self._is_done else None

    @property
    def is_idle(self) -> bool:
        """Whether this process writes nothing at the moment."""
        return self._work is None or self._work.done()

    @property
    def _is_done(self) -> bool:
        return self._work is not None and self._work.done()

    def go_on(self, *, is_all_written: bool) -> None:
        """After a step. is_all_written: whether that is so of every process."""
        if self._is_in_shares:
            if is_all_written:
                self._hand_over()
        elif self._is_done and self.fault is None and self._flight is not None:
            self._note(self._flight)

    def wait(self) -> None:
        """Until nothing is in flight; every process calls it after the same step.

        Raises why the checkpoint could not be written: EnvironmentFault VIT-506, VIT-508.
        """
        if self._flight is None:
            return
        if self._is_in_shares:
            mine = self._ended()
            found = self.ranks.collect(json.dumps(written(mine) if mine else None).encode())
            self._agree(mine, next((one for one in map(json.loads, found) if one), None))
            self._hand_over()
        mine = self._ended()
        self._agree(mine, written(mine) if mine else None)
        if self._work is not None:
            self._note(self._flight)
        self._flight = None

    def settle(self) -> None:
        """As `wait`, where the run ends with another error: one of the checkpoint is said."""
        try:
            self.wait()
        except VitrailError as error:
            if not is_told(error):
                self.say(str(error))

    def _close(self, error: Exception) -> None:
        """The run ends with `error`: what this process can do by itself with a checkpoint in
        flight.
        """
        if self._flight is None:
            return
        if not self._is_in_shares and self._work is not None:
            lost = self._ended()
            if lost is None:
                with suppress(VitrailError):
                    self._note(self._flight)
            elif lost is not error:
                self.say(str(lost))
        if self.ranks.is_first and self._flight is not None and self._flight.temporary:
            abandon(self.fs, self._directory(self._flight))

    def _ended(self) -> BaseException | None:
        """Wait for the work of this process; why it failed."""
        return self._work.exception() if self._work is not None else None

    def _directory(self, flight: InFlight) -> Path:
        return self.run.path / "checkpoints" / flight.temporary

    def _begin(self, flight: InFlight, work: Callable[[], Any], *, is_copied: bool) -> None:
        """Do `work` in a thread; now, where it reads tensors that the next step changes."""
        self._flight, self._work = flight, in_background(work)
        if not is_copied:
            self._ended()

    def _write(self, flight: InFlight, tensors: Tensors) -> None:
        self.metrics.flush()
        save_checkpoint(
            self.run.path,
            flight.step,
            tensors,
            flight.record,
            keep=self.keep,
            protect=flight.protect,
            damaged=self.damaged,
            fs=self.fs,
        )

    def _write_share(self, flight: InFlight, tensors: Tensors) -> Written:
        return write_share(
            self.run.path,
            flight.temporary,
            self.ranks.rank,
            self.ranks.world,
            tensors,
            step=flight.step,
            fs=self.fs,
        )

    def _commit(self, flight: InFlight, shares: list[Written]) -> None:
        try:
            self.metrics.flush()
            commit_shares(
                self.run.path,
                flight.temporary,
                shares,
                flight.names,
                flight.record,
                step=flight.step,
                keep=self.keep,
                protect=flight.protect,
                damaged=self.damaged,
                fs=self.fs,
            )
        except BaseException:
            abandon(self.fs, self._directory(flight))
            raise

    def _place(self, step: int) -> str:
        """A directory for the shares of a checkpoint; "" where it is there already."""
        with as_fault(place_of(self.run.path, step), self.fs):
            if is_saved(self.run.path, step, damaged=self.damaged, fs=self.fs):
                return ""
        return temporary_name(step)

    def _hand_over(self) -> None:
        """Tell the first process what was written; it makes the checkpoint of it."""
        assert self._flight is not None
        assert self._work is not None
        mine: Written = self._work.result()
        found = self.ranks.collect(mine.model_dump_json().encode())
        self._is_in_shares, self._work = False, None
        if self.ranks.is_first:
            shares = [Written.model_validate_json(one) for one in found]
            self._work = in_background(partial(self._commit, self._flight, shares))

    def _agree(self, mine: BaseException | None, record: dict[str, Any] | None) -> None:
        """Raise the error that the first process knows of, on every process."""
        told = record if self.ranks.is_alone else self.ranks.tell(record)
        if told is None:
            return
        flight, self._flight, self._work, self._is_in_shares = self._flight, None, None, False
        if flight is not None and flight.temporary and self.ranks.is_first:
            abandon(self.fs, self._directory(flight))
        raise mine if mine is not None else rebuilt(told)

    def _note(self, flight: InFlight) -> None:
        """Note in run.json what was saved."""
        self._work = None
        if self.ranks.is_alone:
            self._flight = None
        if self.ranks.is_first:
            best, seconds = flight.record["best"], flight.record["seconds"]
            self.run.update(best=best, seconds=round(seconds, 3))


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """Do `work` in a daemon thread of its own."""
    found: Future[Any] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, name="save", daemon=True).start()
    return found


def _copied(state: Saved, is_kept: Callable[[str, str], bool]) -> tuple[Tensors, bool]:
    """What is kept of the tensors of `state`, and whether that is a copy."""
    files = state.tensors()
    kept = {
        file: {name: value for name, value in tensors.items() if is_kept(file, name)}
        for file, tensors in files.items()
    }
    if not state.is_sharded and sum(sizes_of(kept).values()) > ROOM * memory_bytes():
        return kept, False
    return state.copied(is_kept), True

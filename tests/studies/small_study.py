"""A study of tiny models on the built-in digits, and an engine that only says what it is told."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError
from vitrail.studies.budget import Pace, Paces
from vitrail.studies.engine.cell import Cell, needed
from vitrail.studies.engine.job import Job
from vitrail.studies.engine.processes import Event
from vitrail.studies.engine.row import Row
from vitrail.studies.engine.store import Store
from vitrail.studies.setup import Setup, open_setup

TINY: dict[str, Any] = {
    "model.name": "vit_digits",
    "model.width": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.mlp_dim": 23,
    "examples": 640,
    "batch_size": 64,
    "save_every_steps": 2,
}
ONE_SECOND = Pace(0.0, 0.0, 0.0, 0)  # a cell takes the second that every cell needs to finish


@functools.cache
def _digits() -> Setup:
    return open_setup("builtin:digits", examples=640, seeds=(0, 1))


def digits(**changes: Any) -> Setup:
    """The digits as a study sees them."""
    return replace(_digits(), **changes)


def cell(arm: str = "ViT", seed: int = 0, start: Cell | None = None, **changes: Any) -> Cell:
    """A tiny cell; changes: settings, with __ for a dot."""
    given = {name.replace("__", "."): value for name, value in changes.items()}
    model = {} if start is not None else TINY
    settings = {**digits().base(), **model, "examples": 640, "save_every_steps": 2, **given}
    axes = {"lr": float(settings.get("optim.lr", 0))}
    recipe = "small.scratch" if start is None else "transfer.adamw"
    return Cell(arm, axes, settings, seed, recipe, start)


def paces_of(cells: list[Cell], pace: Pace = ONE_SECOND) -> Paces:
    """The same pace for all."""
    return {one.pace_key(): pace for one in needed(cells)}


def new_store(folder: Path) -> Store:
    """An empty study."""
    (folder / "runs").mkdir(parents=True)
    return Store(folder)


def key_of(one: Cell) -> str:
    """Its key on the digits."""
    return one.key(digits().fingerprint)


def made_row(job: Job, **values: float) -> Row:
    """A row as a worker makes it."""
    return Row(**job.row(values, {"cell_secs": 0.1}, {"vitrail": "0"}, f"runs/{job.key}"))


Answer = Callable[[Job], Row | VitrailError]


@dataclass
class ScriptedEngine:
    """Answers each job as `answer` says, one at a time, in the order in which they were begun."""

    answer: Answer = lambda job: made_row(job, **{"test/top1": 0.5})
    slots: int = 2
    started: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    is_closed: bool = False

    @property
    def free(self) -> int:
        """Slots without a job."""
        return self.slots - len(self.running)

    def start(self, job: Job) -> None:
        """Remember it."""
        assert self.free > 0
        self.started.append(job)
        self.running.append(job)

    def events(self, max_secs: float) -> Iterator[Event]:
        """The oldest running job ends."""
        job = self.running.pop(0)
        found = self.answer(job)
        if isinstance(found, VitrailError):
            yield Event("failed", job.key, error=found)
        else:
            yield Event("done", job.key, row=found.to_json())

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True


class Listener:
    """Remembers what a watcher hears."""

    def __init__(self) -> None:
        self.total, self.kept = 0, 0
        self.rows: list[Row] = []
        self.shares: dict[str, list[float]] = {}
        self.on_progress: Callable[[Cell, float], None] = lambda cell, share: None

    def cells(self, total: int, kept: int, secs: float) -> None:
        """The beginning."""
        self.total, self.kept = total, kept

    def progress(self, cell: Cell, share: float) -> None:
        """A share of a cell."""
        self.shares.setdefault(cell.title, []).append(share)
        self.on_progress(cell, share)

    def row(self, cell: Cell, row: Row, done: int, left_secs: float) -> None:
        """A cell's end."""
        self.rows.append(row)


def lasting(row: Row | Mapping[str, Any]) -> dict[str, Any]:
    """What of a row does not depend on who computed it, and when."""
    record = row.to_json() if isinstance(row, Row) else dict(row)
    return {name: value for name, value in record.items() if name not in ("cost", "made")}

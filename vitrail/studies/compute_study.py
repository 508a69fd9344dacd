"""A study: cells, and what their rows amount to. And the loop that computes what is missing.

    cells(setup) -> rows, each kept as soon as there is one -> outcome(setup, rows)

A study declares; it holds no training code. `compute` is the same for every study and for
`compare`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vitrail.errors import VitrailError
from vitrail.studies.budget import Pace, Paces, cell_secs
from vitrail.studies.engine.cell import Cell, needed
from vitrail.studies.engine.job import Job
from vitrail.studies.engine.row import Row, row_from
from vitrail.studies.engine.store import Store
from vitrail.studies.results.result import Outcome
from vitrail.studies.setup import Setup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from vitrail.studies.engine.processes import Engine, Event

WAIT_SECS = 0.25
JudgedBy = Literal["test/top1", "val/top1"]


@dataclass(frozen=True)
class Study:
    """claim, source: what the paper says, and where. cells: of a setup, the reference model's cells
    with `setup.examples`. outcome: of the rows there are. choices: further options and their
    defaults. full: the paper's own scale, in a sentence. is_alone: cells would disturb one another,
    as what is timed does, so that one at a time is computed unless more are asked for. verb: the
    command that runs it. judged_by: the figure that its verdict rests on; what chooses keeps off
    the test images. file: name of the file that declares it, "" for the paper's experiments.
    """

    name: str
    title: str
    claim: str
    source: str
    cells: Callable[[Setup], list[Cell]]
    outcome: Callable[[Setup, Sequence[Row]], Outcome]
    full: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    has_sizes: bool = False
    verb: str = "study"
    is_alone: bool = False
    judged_by: JudgedBy = "test/top1"
    file: str = ""


class Watcher(Protocol):
    """Hears how a study gets on."""

    def cells(self, total: int, kept: int, secs: float) -> None:
        """So many cells, so many of them finished before, and how long the others will take."""

    def progress(self, cell: Cell, share: float) -> None:
        """A running cell."""

    def row(self, cell: Cell, row: Row, done: int, left_secs: float) -> None:
        """A cell has ended."""


@dataclass
class Computed:
    """What came of it. rows: of all finished cells of this study, in the order of the cells.
    left_out: cells that the budget had no time for; orphans: cells whose start diverged. stopped:
    the signal that ended it, or None.
    """

    rows: list[Row]
    num_cells: int
    left_out: int = 0
    orphans: int = 0
    stopped: str | None = None


class Stop(BaseException):
    """A signal asked us to stop."""


def job_of(cell: Cell, study: str, setup: Setup, store: Store) -> Job:
    """What a worker needs to know of `cell`."""
    start = cell.start.key(setup.fingerprint) if cell.start is not None else ""
    return Job.of(
        cell,
        key=cell.key(setup.fingerprint),
        study=study,
        folder=store.folder,
        start=start,
        transfer=setup.transfer,
    )


def measure_paces(
    cells: Sequence[Cell], study: str, setup: Setup, store: Store, engine: Engine
) -> dict[str, Pace]:
    """The pace of every kind of cell. Raises what a run would raise."""
    kinds = {cell.pace_key(): cell.pace_cell() for cell in needed(list(cells))}
    waiting = [
        replace(Job.of(cell, key=key, study=study, folder=store.folder), seed=0, is_pace=True)
        for key, cell in kinds.items()
    ]
    paces: dict[str, Pace] = {}
    while len(paces) < len(kinds):
        while waiting and engine.free:
            engine.start(waiting.pop(0))
        for event in engine.events(WAIT_SECS):
            if event.error is not None:
                raise event.error
            if event.row is not None:
                paces[event.key] = Pace(**event.row)
    return paces


def compute(
    cells: Sequence[Cell],
    study: str,
    setup: Setup,
    store: Store,
    engine: Engine,
    paces: Paces,
    budget_secs: float | None,
    watcher: Watcher,
) -> Computed:
    """Compute the cells that have no row yet, parents first; no cell is begun that would end after
    the budget.

    Raises the first error of a cell that is no result, after the others have ended.
    """
    try:
        work = _Work(needed(list(cells)), study, setup, store, paces, watcher)
        work.announce()
        with _signals():
            work.run(engine, budget_secs)
    except Stop as stop:
        work.stopped = str(stop)
    finally:
        engine.close()
    if work.error is not None:
        raise work.error
    return work.computed()


@contextmanager
def _signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise Stop inside the block."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Work:
    """What is done, running and waiting."""

    def __init__(
        self,
        cells: list[Cell],
        study: str,
        setup: Setup,
        store: Store,
        paces: Paces,
        watcher: Watcher,
    ) -> None:
        self.study, self.setup, self.store = study, setup, store
        self.paces, self.watcher = paces, watcher
        self.cells = {cell.key(setup.fingerprint): cell for cell in cells}
        store.mend()
        kept = store.rows()
        self.rows = {key: kept[key] for key in self.cells if key in kept}
        self.waiting = [key for key in self.cells if key not in self.rows]
        self.waiting.sort(key=lambda key: self.cells[key].seed)
        self.running: dict[str, float] = {}  # key -> when it will have ended, as planned
        self.left_out: list[str] = []
        self.orphans: list[str] = []
        self.error: VitrailError | None = None
        self.stopped: str | None = None
        self.began = time.monotonic()

    def announce(self) -> None:
        seconds = sum(cell_secs(self.cells[key], self.paces) for key in self.waiting)
        self.watcher.cells(len(self.cells), len(self.rows), seconds)

    def run(self, engine: Engine, budget_secs: float | None) -> None:
        while self.waiting or self.running:
            while engine.free and (key := self._next(budget_secs)) is not None:
                self.running[key] = self._elapsed() + cell_secs(self.cells[key], self.paces)
                engine.start(job_of(self.cells[key], self.study, self.setup, self.store))
            if not self.running:
                return
            for event in engine.events(WAIT_SECS):
                self._note(event)

    def _next(self, budget_secs: float | None) -> str | None:
        """The next cell whose parent is there and that ends in time; None for now or for good."""
        if self.error is not None:
            self.waiting.clear()
        for key in list(self.waiting):
            cell = self.cells[key]
            parent = cell.start.key(self.setup.fingerprint) if cell.start is not None else None
            if parent is not None and (parent in self.waiting or parent in self.running):
                continue
            ends = self._elapsed() + cell_secs(cell, self.paces)
            self.waiting.remove(key)
            if parent in self.orphans or (parent in self.rows and not self.rows[parent].values):
                self.orphans.append(key)
            elif parent in self.left_out or (budget_secs is not None and ends > budget_secs):
                self.left_out.append(key)
            else:
                return key
        return None

    def _note(self, event: Event) -> None:
        if event.key not in self.running:
            return  # of a worker that was measuring the pace
        cell = self.cells[event.key]
        if event.kind == "progress":
            self.watcher.progress(cell, event.share)
            return
        del self.running[event.key]
        if event.error is not None:
            self.error = self.error or event.error
        elif event.row is not None:
            row = row_from(event.row)
            self.store.append(row)
            self.rows[event.key] = row
            self.watcher.row(cell, row, len(self.rows), self._left_secs())

    def _left_secs(self) -> float:
        waiting = sum(cell_secs(self.cells[key], self.paces) for key in self.waiting)
        return waiting + sum(max(0.0, ends - self._elapsed()) for ends in self.running.values())

    def _elapsed(self) -> float:
        return time.monotonic() - self.began

    def computed(self) -> Computed:
        rows = [self.rows[key] for key in self.cells if key in self.rows]
        late, orphans = len(self.left_out), len(self.orphans)
        return Computed(rows, len(self.cells), late, orphans, self.stopped)

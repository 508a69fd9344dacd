"""The loop over cells: order, budget, failures and signals, with an engine that says what it is
told.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.studies.small_study import (
    Listener,
    ScriptedEngine,
    cell,
    digits,
    key_of,
    lasting,
    made_row,
    new_store,
    paces_of,
)
from vitrail.errors import EnvironmentFault, ModelError, VitrailError
from vitrail.studies.budget import Pace
from vitrail.studies.compute_study import Computed, compute, measure_paces
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.job import Job
from vitrail.studies.engine.processes import Event
from vitrail.studies.engine.row import Row
from vitrail.studies.engine.store import Store

LOST = EnvironmentFault("VIT-510", "a process has ended", hint="again")
PARENTS = [cell(seed=seed) for seed in range(3)]
CHILDREN = [cell("tuned", one.seed, start=one) for one in PARENTS]


def computed(
    cells: list[Cell],
    store: Store,
    engine: ScriptedEngine,
    budget_secs: float | None = None,
    listener: Listener | None = None,
) -> Computed:
    return compute(
        cells, "tiny", digits(), store, engine, paces_of(cells), budget_secs, listener or Listener()
    )


def failing(keys: set[str], error: VitrailError | None) -> ScriptedEngine:
    """Cells of `keys` end in `error`, or, where that is None, diverge."""

    def answer(job: Job) -> Row | VitrailError:
        if job.key not in keys:
            return made_row(job, **{"test/top1": 0.5})
        return error or Row(**{**made_row(job).to_json(), "made": {"error": "VIT-601"}})

    return ScriptedEngine(answer)


def test_parents_first_and_all_of_one_seed_before_the_next(tmp_path: Path) -> None:
    engine, listener = ScriptedEngine(), Listener()
    found = computed(CHILDREN, new_store(tmp_path / "s"), engine, listener=listener)
    keys = [job.key for job in engine.started]
    assert sorted(keys) == sorted(map(key_of, [*PARENTS, *CHILDREN]))
    for child in CHILDREN:
        assert child.start is not None
        assert keys.index(key_of(child.start)) < keys.index(key_of(child))
    assert [job.start for job in engine.started if job.arm == "tuned"] == list(map(key_of, PARENTS))
    assert (found.num_cells, found.left_out, found.stopped) == (6, 0, None)
    assert [row.seed for row in found.rows] == [0, 0, 1, 1, 2, 2]  # in the order of the cells
    assert (listener.total, listener.kept, len(listener.rows)) == (6, 0, 6)
    assert engine.is_closed


def test_a_child_waits_for_its_parent(tmp_path: Path) -> None:
    engine = ScriptedEngine(slots=9)
    store = new_store(tmp_path / "s")
    begun_with: list[set[str]] = []
    start = engine.start

    def noting(job: Job) -> None:
        if job.start:
            begun_with.append(set(store.rows()) & {job.start})
        start(job)

    engine.start = noting  # type: ignore[method-assign]
    computed(CHILDREN, store, engine)
    assert begun_with == [{key_of(one)} for one in PARENTS]


def test_finished_cells_are_not_computed_again(tmp_path: Path) -> None:
    store, listener = new_store(tmp_path / "s"), Listener()
    first = computed(PARENTS[:2], store, ScriptedEngine())
    engine = ScriptedEngine()
    found = computed([*PARENTS, *CHILDREN], store, engine, listener=listener)
    assert len(engine.started) == 4
    assert (listener.total, listener.kept) == (6, 2)
    assert [lasting(row) for row in found.rows[:2]] == [lasting(row) for row in first.rows]
    engine = ScriptedEngine()
    again = computed([*PARENTS, *CHILDREN], store, engine)
    assert again.rows == found.rows
    assert engine.started == []


def test_rows_of_other_cells_are_left_alone(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    computed(PARENTS[:1], store, ScriptedEngine())
    found = computed(PARENTS[1:], store, ScriptedEngine())
    assert [row.seed for row in found.rows] == [1, 2]
    assert len(store.rows()) == 3


def test_a_diverged_parent_is_a_row_and_its_child_is_left_out(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    for _ in range(2):  # the second time from the kept rows
        found = computed(CHILDREN, store, failing({key_of(PARENTS[1])}, None))
        assert (found.num_cells, len(found.rows)) == (6, 5)
        assert (found.left_out, found.orphans) == (0, 1)
        without = [row for row in found.rows if not row.values]
        assert [row.key for row in without] == [key_of(PARENTS[1])]
        assert key_of(CHILDREN[1]) not in store.rows()


def test_an_error_is_raised_after_the_others_have_ended(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    engine = failing({key_of(PARENTS[0])}, LOST)
    with pytest.raises(EnvironmentFault) as caught:
        computed(CHILDREN, store, engine)
    assert caught.value is LOST
    assert engine.is_closed
    assert list(store.rows()) == [key_of(PARENTS[1])]  # it was running beside
    assert len(engine.started) == 2
    engine = ScriptedEngine()
    assert len(computed(CHILDREN, store, engine).rows) == 6
    assert len(engine.started) == 5


def test_the_first_of_two_errors_is_raised(tmp_path: Path) -> None:
    errors = iter([LOST, ModelError("VIT-409", "second")])
    engine = ScriptedEngine(lambda job: next(errors))
    with pytest.raises(EnvironmentFault, match="VIT-510"):
        computed(PARENTS, new_store(tmp_path / "s"), engine)


def test_no_cell_is_begun_that_would_end_too_late(tmp_path: Path) -> None:
    long = cell("long", examples=6400)
    cells = [PARENTS[0], long, *PARENTS[1:]]
    pace = Pace(0.0, secs_per_example=0.001, secs_per_judged=0.0, judged=0)
    engine = ScriptedEngine()
    found = compute(
        cells,
        "tiny",
        digits(),
        new_store(tmp_path / "s"),
        engine,
        paces_of(cells, pace),
        5.0,
        Listener(),
    )
    assert (len(found.rows), found.left_out) == (3, 1)  # 1.64 s each, and 7.4 s
    assert "long" not in [job.arm for job in engine.started]


def test_a_child_whose_start_has_no_time_is_not_begun(tmp_path: Path) -> None:
    """It would end in time itself: 1.64 s after a start of 7.4 s."""
    long = cell("long", examples=6400)
    child = cell("tuned", start=long)
    pace = Pace(0.0, secs_per_example=0.001, secs_per_judged=0.0, judged=0)
    engine = ScriptedEngine()
    store, paces = new_store(tmp_path / "s"), paces_of([child], pace)
    found = compute([child], "tiny", digits(), store, engine, paces, 5.0, Listener())
    assert (found.rows, found.left_out, found.orphans) == ([], 2, 0)
    assert engine.started == []


def test_a_budget_that_is_spent_begins_nothing(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    found = computed(CHILDREN, new_store(tmp_path / "s"), engine, budget_secs=-3.0)
    assert (found.rows, found.left_out, engine.started) == ([], 6, [])
    assert engine.is_closed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_keeps_the_rows(tmp_path: Path, number: signal.Signals) -> None:
    store = new_store(tmp_path / "s")

    def answer(job: Job) -> Row:
        if len(store.rows()) == 2:
            os.kill(os.getpid(), number)
        return made_row(job, **{"test/top1": 0.5})

    engine = ScriptedEngine(answer)
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    found = computed(CHILDREN, store, engine)
    assert found.stopped == number.name
    assert len(found.rows) == len(store.rows()) == 2
    assert engine.is_closed
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_job_that_a_signal_stopped_has_no_row(tmp_path: Path) -> None:
    """A worker that was told to stop by somebody else: its cell is computed the next time."""
    store, engine = new_store(tmp_path / "s"), ScriptedEngine()
    engine.events = lambda max_secs: iter(  # type: ignore[method-assign]
        [Event("done", engine.running.pop(0).key, row=None)]
    )
    found = computed(PARENTS, store, engine)
    assert found.rows == []
    assert len(computed(PARENTS, store, ScriptedEngine()).rows) == 3


def test_a_damaged_row_is_told_and_the_engine_let_go(tmp_path: Path) -> None:
    store, engine = new_store(tmp_path / "s"), ScriptedEngine()
    store.rows_file.write_text("{}\n")
    with pytest.raises(ModelError, match="line 1"):
        computed(PARENTS, store, engine)
    assert engine.is_closed


def test_a_torn_row_is_computed_again(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    computed(PARENTS, store, ScriptedEngine())
    store.rows_file.write_bytes(store.rows_file.read_bytes()[:-7])
    engine = ScriptedEngine()
    assert len(computed(PARENTS, store, engine).rows) == 3
    assert [job.seed for job in engine.started] == [2]
    assert len(store.rows()) == 3


def test_the_pace_of_every_kind_is_measured_once(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    cells = [*CHILDREN, cell("wide", model__width=32), cell("wide", seed=1, model__width=32)]
    engine = ScriptedEngine()
    engine.events = lambda max_secs: iter([_paced(engine)])  # type: ignore[method-assign]
    found = measure_paces(cells, "tiny", digits(), store, engine)
    assert set(found) == {one.pace_key() for one in (*PARENTS, *CHILDREN, cells[-1])}
    assert all(job.is_pace and not job.start for job in engine.started)
    assert len(engine.started) == len(found)
    assert store.rows() == {}


def _paced(engine: ScriptedEngine) -> Event:
    pace = {"open_secs": 1.0, "secs_per_example": 0.1, "secs_per_judged": 0.1, "judged": 7}
    return Event("done", engine.running.pop(0).key, row=pace)

"""Workers: the same rows from any number of them, whatever kills them, and none is left behind."""

from __future__ import annotations

import errno
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.studies.small_study import (
    Listener,
    cell,
    digits,
    key_of,
    lasting,
    new_store,
    paces_of,
)
from tests.training.running import records, weights
from vitrail.errors import DataError, EnvironmentFault
from vitrail.runs.stored import list_steps
from vitrail.studies.compute_study import Computed, compute, job_of, measure_paces
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.job import Job
from vitrail.studies.engine.processes import Event, LocalEngine, revived
from vitrail.studies.engine.row import row_from
from vitrail.studies.engine.store import Store
from vitrail.studies.engine.worker import described

LONG: dict[str, Any] = {"examples": 64 * 600, "save_every_steps": 5}


def computed(
    cells: list[Cell], store: Store, processes: int, listener: Listener | None = None
) -> Computed:
    engine = LocalEngine(processes, store.folder / "log.txt")
    return compute(
        cells, "tiny", digits(), store, engine, paces_of(cells), None, listener or Listener()
    )


def workers() -> list[psutil.Process]:
    """Living workers that this process has begun."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "vitrail.studies.engine.worker" in child.cmdline()
    ]


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert workers() == []


def one_job(engine: LocalEngine, job: Job) -> Event:
    """The event that ends a job."""
    engine.start(job)
    while True:
        for event in engine.events(60):
            if event.kind != "progress":
                return event


def run_of(store: Store, one: Cell) -> Path:
    return store.folder / "runs" / key_of(one)


def kill_at(share: float, killed: list[int]) -> Listener:
    """Kills the worker that is at work once its run has come so far."""
    listener = Listener()

    def kill(cell: Cell, done: float) -> None:
        if done >= share and not killed:
            (busy,) = workers()
            killed.append(busy.pid)
            busy.send_signal(signal.SIGKILL)

    listener.on_progress = kill
    return listener


def test_a_worker_does_jobs_and_tells_what_went_wrong(tmp_path: Path) -> None:
    """One process, for its start costs seconds: a pace, a run that diverges, an error, a run."""
    store, plain, wild = new_store(tmp_path / "s"), cell(), cell("wild", optim__lr=1e6)
    engine = LocalEngine(1, store.folder / "log.txt")
    try:
        assert engine.free == 1
        paces = measure_paces([plain], "tiny", digits(), store, engine)
        pace = paces[plain.pace_key()]
        assert 0 < pace.secs_per_example < 0.1
        assert (pace.judged, list((store.folder / "runs").iterdir())) == (digits().num_held_out, [])

        event = one_job(engine, job_of(wild, "tiny", digits(), store))
        assert event.row is not None
        row = row_from(event.row)
        assert (event.kind, row.key, dict(row.values)) == ("done", key_of(wild), {})
        assert row.made["error"] == "VIT-601"

        lost = cell("lost", data__path=str(tmp_path / "nowhere"))
        event = one_job(engine, job_of(lost, "tiny", digits(), store))
        assert event.kind == "failed"
        assert isinstance(event.error, DataError)
        assert event.error.code == "VIT-303"
        assert "nowhere" in event.error.message
        assert event.error.hint

        (worker,) = workers()
        event = one_job(engine, job_of(plain, "tiny", digits(), store))
        assert event.row is not None
        row = row_from(event.row)
        assert {"test/top1", "val/top1", "macs", "parameters", "test/n"} <= set(row.values)
        assert (row.seed, row.run, row.made.get("error")) == (0, f"runs/{key_of(plain)}", None)
        assert list_steps(run_of(store, plain)) == []  # the model is what stays
        assert (run_of(store, plain) / "model" / "model.safetensors").is_file()
        assert [one.pid for one in workers()] == [worker.pid]
        again = one_job(engine, job_of(plain, "tiny", digits(), store))
        assert again.row is not None
        assert lasting(again.row) == lasting(row)
    finally:
        engine.close()


@pytest.mark.slow
def test_rows_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    parents = [cell(seed=seed, examples=64 * (6 + seed)) for seed in range(2)]
    cells = [*parents, *(cell("tuned", one.seed, start=one) for one in parents)]
    found = {}
    for processes in (1, 2):
        store = new_store(tmp_path / str(processes))
        rows = computed(cells, store, processes).rows
        found[processes] = (
            [lasting(row) for row in rows],
            [weights(run_of(store, one)) for one in cells],
        )
    assert found[1] == found[2]
    assert len(found[1][0]) == 4


@pytest.mark.slow
def test_a_diverged_run_does_not_end_the_study(tmp_path: Path) -> None:
    wild = cell("wild", optim__lr=1e6)
    cells = [wild, cell("tuned", start=wild), cell(seed=1)]
    store = new_store(tmp_path / "s")
    for _ in range(2):
        found = computed(cells, store, 2)
        assert [(row.arm, bool(row.values)) for row in found.rows] == [
            ("wild", False),
            ("ViT", True),
        ]
        assert found.rows[0].made["error"] == "VIT-601"
        assert (found.left_out, found.orphans, found.num_cells) == (0, 1, 3)  # of no budget


@pytest.mark.slow
def test_a_killed_worker_loses_less_than_its_checkpoint(tmp_path: Path) -> None:
    one = cell(**LONG)
    straight, store = new_store(tmp_path / "straight"), new_store(tmp_path / "killed")
    computed([one], straight, 1)
    killed: list[int] = []
    with pytest.raises(EnvironmentFault, match="SIGKILL") as caught:
        computed([one], store, 1, kill_at(0.2, killed))
    assert caught.value.code == "VIT-510"
    assert "Repeat the command to continue" in caught.value.hint
    assert store.rows() == {}
    newest = max(list_steps(run_of(store, one)))
    assert newest >= 0.2 * 600 - 5
    listener = Listener()
    computed([one], store, 1, listener)
    assert min(listener.shares[one.title]) > newest / 600  # went on from there
    assert weights(run_of(store, one)) == weights(run_of(straight, one))
    assert records(run_of(store, one)) == records(run_of(straight, one))
    assert [*map(lasting, store.rows().values())] == [*map(lasting, straight.rows().values())]


@pytest.mark.slow
def test_closing_keeps_a_checkpoint_of_what_is_running(tmp_path: Path) -> None:
    cells = [cell(seed=seed, **{**LONG, "save_every_steps": 10**6}) for seed in range(2)]
    store = new_store(tmp_path / "s")
    engine = LocalEngine(2, store.folder / "log.txt")
    for one in cells:
        engine.start(job_of(one, "tiny", digits(), store))
    seen: set[str] = set()
    while len(seen) < 2:
        seen |= {event.key for event in engine.events(60) if event.kind == "progress"}
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 20
    for one in cells:
        assert max(list_steps(run_of(store, one))) > 0
        assert json.loads((run_of(store, one) / "run.json").read_text())["status"] == "stopped"


@pytest.mark.slow
def test_closing_waits_while_another_worker_only_says_that_it_is_ready(tmp_path: Path) -> None:
    """A word that is no end of a job must not end the waiting."""
    store = new_store(tmp_path / "s")
    engine = LocalEngine(2, store.folder / "log.txt")
    one = cell(**{**LONG, "save_every_steps": 10**6})
    engine.start(job_of(one, "tiny", digits(), store))
    while not [event for event in engine.events(60) if event.kind == "progress"]:
        pass
    real, calls = engine.events, 0

    def events(max_secs: float) -> Iterator[Event]:
        nonlocal calls
        calls += 1
        return iter(()) if calls == 1 else real(max_secs)

    engine.events = events  # type: ignore[method-assign]
    engine.close()
    assert json.loads((run_of(store, one) / "run.json").read_text())["status"] == "stopped"


@pytest.mark.slow
def test_a_worker_ends_when_whoever_asked_has_gone(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    engine = LocalEngine(1, store.folder / "log.txt")
    engine.start(job_of(cell(**LONG), "tiny", digits(), store))
    while not [event for event in engine.events(60) if event.kind == "progress"]:
        pass
    (worker,) = workers()
    process = engine._workers[0].process
    assert process.stdin is not None
    process.stdin.close()  # as the kernel does for a killed process
    assert process.wait(10) == 0
    assert not psutil.pid_exists(worker.pid)
    (event,) = [one for one in engine.events(10) if one.kind == "failed"]
    assert event.error is not None
    assert event.error.code == "VIT-510"
    engine.close()


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (MemoryError(), "EnvironmentFault", "VIT-503"),
        (torch.OutOfMemoryError("CUDA out of memory."), "EnvironmentFault", "VIT-503"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "EnvironmentFault", "VIT-506"),
        (DataError("VIT-303", "nowhere"), "DataError", "VIT-303"),
        (KeyError("lr"), "VitrailError", "VIT-100"),
    ],
)
def test_a_worker_tells_what_the_machine_lacks_from_a_fault_of_ours(
    error: Exception, kind: str, code: str
) -> None:
    record = described(error)
    assert (record["type"], record["code"]) == (kind, code)
    back = revived(record)
    assert (type(back).__name__, back.code) == (kind, code)
    assert record["hint"] or code == "VIT-303"

"""A cluster of two nodes on this machine computes the same rows as processes of this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.studies.small_study import (
    Listener,
    cell,
    digits,
    key_of,
    lasting,
    new_store,
    paces_of,
)
from tests.training.running import weights
from vitrail.errors import DataError, EnvironmentFault
from vitrail.runs.stored import list_steps
from vitrail.studies import run
from vitrail.studies.compute_study import Computed, compute, job_of
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.processes import Engine, LocalEngine
from vitrail.studies.engine.ray_engine import RayEngine
from vitrail.studies.engine.store import Store
from vitrail.studies.experiments import data_size
from vitrail.studies.setup import Setup

cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own processes and streams
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LONG: dict[str, Any] = {"examples": 64 * 600, "save_every_steps": 5}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each."""
    head = {"num_cpus": 1, "include_dashboard": False}
    found = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def computed(cells: list[Cell], setup: Setup, store: Store, engine: Engine) -> Computed:
    return compute(cells, "tiny", setup, store, engine, paces_of(cells), None, Listener())


def wait_for(path: Path, word: str) -> None:
    """Until a run's metrics hold a word."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.is_file() and word in path.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} did not come to {word}")


def test_the_same_rows_as_one_and_two_processes(tmp_path: Path, cluster: Any) -> None:
    """The data-size study, small: three families, two sizes, fine-tuned too."""
    setup = digits(
        seeds=(0,),
        sizes=(64, 320),
        transfer="builtin:digits",
        is_transfer_drawn=True,
        choices={"equal": "epochs"},
        examples=320,
    )
    cells = data_size.cells(setup)
    found = {}
    for name in ("one", "two", "cluster"):
        store = new_store(tmp_path / name)
        engine: Engine = (
            RayEngine(cluster.address)
            if name == "cluster"
            else LocalEngine(1 + (name == "two"), store.folder / "log.txt")
        )
        assert engine.free == 1 + (name != "one")
        rows = computed(cells, setup, store, engine).rows
        runs = [store.folder / row.run for row in rows]
        found[name] = [lasting(row) for row in rows], [weights(one) for one in runs]
    assert len(found["one"][0]) == 12
    assert found["one"] == found["two"]
    assert found["one"] == found["cluster"]
    assert data_size.outcome(setup, rows).verdict.answer


def test_plans_paces_and_errors_travel(tmp_path: Path, cluster: Any) -> None:
    setup = replace(digits(), seeds=(0,), sizes=(100,), choices={"equal": "compute"})
    asked = run.StudyRequest(None, 640, 2, "")
    planned = run.plan(
        data_size.STUDY, setup, asked, tmp_path, lambda store: RayEngine(cluster.address)
    )
    assert len(planned.paces) == 3
    store = new_store(tmp_path / "s")
    engine = RayEngine(cluster.address)
    with pytest.raises(DataError, match="nowhere") as caught:
        computed([cell(data__path=str(tmp_path / "nowhere"))], digits(), store, engine)
    assert caught.value.code == "VIT-303"
    wild = cell("wild", optim__lr=1e6)
    (row,) = computed([wild], digits(), store, RayEngine(cluster.address)).rows
    assert (dict(row.values), row.made["error"]) == ({}, "VIT-601")


def test_closing_keeps_a_checkpoint(tmp_path: Path, cluster: Any) -> None:
    store, one = new_store(tmp_path / "s"), cell(**{**LONG, "save_every_steps": 10**6})
    engine = RayEngine(cluster.address)
    engine.start(job_of(one, "tiny", digits(), store))
    run_dir = store.folder / "runs" / key_of(one)
    wait_for(run_dir / "metrics.jsonl", '"step": 1')
    engine.close()
    assert json.loads((run_dir / "run.json").read_text())["status"] == "stopped"
    newest = max(list_steps(run_dir))
    assert newest > 0
    (row,) = computed([one], digits(), store, RayEngine(cluster.address)).rows
    straight = new_store(tmp_path / "straight")
    (other,) = computed([one], digits(), straight, LocalEngine(1, tmp_path / "log.txt")).rows
    assert lasting(row) == lasting(other)
    assert weights(store.folder / row.run) == weights(straight.folder / other.run)


def test_a_node_that_dies_loses_its_cell_only(tmp_path: Path, cluster: Any) -> None:
    node = cluster.add_node(num_cpus=1, resources={"doomed": 1})
    store = new_store(tmp_path / "s")
    cells = [cell(seed=seed, **LONG) for seed in range(3)]
    engine = RayEngine(cluster.address)
    assert engine.free == 3

    events, is_dead = engine.events, False

    def killing(max_secs: float) -> Any:
        nonlocal is_dead
        metrics = [store.folder / "runs" / key_of(one) / "metrics.jsonl" for one in cells]
        if not is_dead and all(path.is_file() and path.stat().st_size for path in metrics):
            is_dead = True
            cluster.remove_node(node, allow_graceful=False)
        return events(max_secs)

    engine.events = killing  # type: ignore[method-assign]
    with pytest.raises(EnvironmentFault) as caught:
        computed(cells, digits(), store, engine)
    assert is_dead
    assert caught.value.code == "VIT-510"
    assert len(store.rows()) == 2
    assert len(computed(cells, digits(), store, RayEngine(cluster.address)).rows) == 3


def test_more_cores_than_a_machine_has(cluster: Any) -> None:
    with pytest.raises(EnvironmentFault, match="2 cores") as caught:
        RayEngine(cluster.address, cpus=2)
    assert caught.value.code == "VIT-511"
    with pytest.raises(EnvironmentFault, match="1 GPUs"):
        RayEngine(cluster.address, gpus=1)


@pytest.mark.parametrize("address", ["auto", "nonsense"])
def test_no_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**_: Any) -> None:
        raise ConnectionError("nobody there") if address == "auto" else ValueError("no port")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(EnvironmentFault, match=address) as caught:
        RayEngine(address)
    assert caught.value.code == "VIT-511"
    assert "ray start --head" in caught.value.hint

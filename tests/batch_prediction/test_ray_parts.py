"""The same parts by a Ray cluster of two nodes on this machine, and by a node that dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.batch_prediction.many_images import parts_there, save_many, save_model
from tests.cli.cli_command import run
from vitrail.batch_prediction import ray_parts
from vitrail.batch_prediction.part_store import PartStore
from vitrail.batch_prediction.parts import Images, parts_of
from vitrail.classifier import load


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with model/ and photos/."""
    folder, before = tmp_path_factory.mktemp("ray"), Path.cwd()
    save_model(folder / "model")
    save_many(folder / "photos", 120, bad=2)
    os.chdir(folder)
    yield folder
    os.chdir(before)


def order_for(place: Path, out: Path, identity: str) -> dict[str, object]:
    return {
        "model": "model",
        "options": {"device": "cpu"},
        "identity": identity,
        "top": 3,
        "batch_size": 8,
        "folder": str(place),
        "out": str(out),
    }


def test_a_node_computes_one_part_and_refuses_another_model(place: Path, tmp_path: Path) -> None:
    identity = load("model").identity
    out = tmp_path / "p.csv"
    (part,) = parts_of(Images(["photos/00000.png", "photos/00005.png"]), 5, {})
    record = {"index": 0, "key": part.key, "paths": list(part.images.paths), "refused": {}}
    answer = ray_parts.on_node(order_for(place, out, identity), record)
    assert answer == {"counts": {"rows": 2, "errors": 1, "most": 3}}
    assert PartStore(out).counts_of(part) is not None
    refused = ray_parts.on_node(order_for(place, out, "0" * 64), record)
    assert refused["error"]["code"] == "VIT-445"
    missing = ray_parts.on_node({**order_for(place, out, identity), "model": "none"}, record)
    assert missing["error"]["code"] == "VIT-430"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_make_the_table_of_one_machine(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    words = ("predict", "model", "photos", "--part-rows", 10, "--batch-size", 4)
    straight, shared = tmp_path / "straight.csv", tmp_path / "shared.csv"
    assert run(*words, "--out", straight).code == 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        address = ("--cluster", "ray", "--ray-address", cluster.address)
        done = run(*words, "--out", shared, *address)
    finally:
        cluster.shutdown()
    assert done.code == 0, done.err
    assert shared.read_bytes() == straight.read_bytes()
    assert parts_there(shared) == []


class LostError(Exception):
    """What Ray raises where nobody answers."""


@pytest.mark.parametrize("fault", [LostError, ConnectionError, ValueError])
def test_no_cluster_at_the_address(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def init(**_: object) -> None:
        raise fault("nobody")

    fake = SimpleNamespace(init=init, exceptions=SimpleNamespace(RayError=LostError))
    monkeypatch.setitem(sys.modules, "ray", fake)
    words = ("predict", "model", "photos", "--out", tmp_path / "p.csv", "--cluster", "ray")
    done = run(*words, "--ray-address", "127.0.0.1:1")
    assert (done.code, "VIT-511" in done.err, "leave --cluster out" in done.err) == (5, True, True)

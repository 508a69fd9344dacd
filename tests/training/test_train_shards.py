"""Training on an index: the weights of the folder (A15), and no look at any file (A13)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run
from tests.data.class_folders import class_folders, parquet_of, webdataset
from tests.training import running
from tests.training.ranks.test_launch import ended, started
from vitrail.data.indexing.foreign import index_shards
from vitrail.data.indexing.shard_making import ShardOptions, write_shards
from vitrail.data.sources import shard_source
from vitrail.data.sources.open_data import open_data, open_whole
from vitrail.evaluation.run_data import resumed
from vitrail.training import loop

TINY = (
    "--model vit_ti4 --model.depth 1 --model.width 48 --image-size 16 --steps 5 --batch-size 8"
    " --device cpu --threads 1 --residual-baseline false"
).split()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, the same as shards/, and as tars of others with an index."""
    place = tmp_path_factory.mktemp("place")
    photos = class_folders(place / "photos", 10)
    write_shards(open_whole(photos), place / "shards", ShardOptions(shard_bytes=20_000))
    webdataset(photos, place / "foreign")
    index_shards(place / "foreign", place / "index", ShardOptions())
    parquet_of(photos, place / "files" / "train.parquet", 7)
    index_shards(place / "files", place / "parquet", ShardOptions())
    return place


def trained(place: Path, data: str, *more: str) -> tuple[str, list[dict[str, Any]]]:
    """sha256 of the weights, and the losses of a run. data: a name in `place`, or an address."""
    name = f"{data.replace('://', '-')}-{len(more)}"
    where = data if "://" in data else str(place / data)
    asked = (*TINY, *more, "--out", str(place / "runs"), "--name", name)
    answer = run("train", where, *asked)
    assert answer.code == 0, answer.err
    model = (place / "runs" / name / "model" / "model.safetensors").read_bytes()
    lines = (place / "runs" / name / "metrics.jsonl").read_text().splitlines()
    kept = ("train/loss", "val/loss", "val/top1")
    records = [{key: row[key] for key in kept if key in row} for row in map(json.loads, lines)]
    return hashlib.sha256(model).hexdigest(), records


def test_folder_shards_and_foreign_index_give_the_same_weights(place: Path) -> None:
    first = trained(place, "photos", "--workers", "2")
    assert trained(place, "shards", "--workers", "2") == first
    assert trained(place, "index", "--workers", "0") == first
    assert trained(place, "parquet", "--workers", "2") == first
    facts = [
        json.loads((place / f"runs/{name}-2/data.json").read_text())
        for name in ("photos", "shards")
    ]
    for key in ("fingerprints", "split", "counts", "class_counts", "image"):
        assert facts[0][key] == facts[1][key]
    assert len(facts[1]["index"]) == 64


def test_a_store_gives_the_same_weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where three shards at a time are kept, by two processes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "home"))
    store = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem()
    for path in (place / "shards").iterdir():
        store.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    cache = ("--data.cache", str(place / "cache"), "--data.cache-bytes", "62000")
    first = trained(place, "photos", "--workers", "0", "--seed", "0")
    assert trained(place, "memory://bucket", "--workers", "2", *cache) == first
    found = run("eval", str(place / "runs/memory-bucket-6"), "--json", "--device", "cpu")
    assert found.code == 0, found.err


def judged(*what: object) -> dict[str, Any]:
    """What `vitrail eval` says of the images that it takes."""
    found = run("eval", *map(str, what), "--json", "--device", "cpu")
    assert found.code == 0, found.err
    return dict(json.loads(found.out)["judged"])


def test_a_run_is_evaluated_and_predicted_on_its_shards(place: Path) -> None:
    trained(place, "shards", "--seed", "1", "--workers", "0")
    own = judged(place / "runs/shards-4")
    assert own["trained_on"] == 0
    folder = judged(place / "runs/shards-4/model", place / "photos")
    assert (folder["how"], folder["n"], folder["trained_on"]) == ("recorded", own["n"], 0)


def test_very_many_images_are_recorded_by_their_rows(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a million on: nothing is asked of names or contents, and a run is found again."""
    monkeypatch.setattr(shard_source, "LARGE", 10)
    trained(place, "shards", "--seed", "2", "--workers", "0", "--patience", "9")
    folder = place / "runs/shards-6"
    splits = open_data(place / "shards", seed=2)
    again = resumed(folder)
    for part, source in splits.parts().items():
        twin = again.parts()[part]
        assert [twin.read(i)[0] for i in range(len(twin))] == [
            source.read(i)[0] for i in range(len(source))
        ]
    own = judged(folder)
    assert (own["how"], own["trained_on"]) == ("recorded", 0)
    seen = judged(folder / "model", place / "shards", "--split", "train")["trained_on"]
    assert seen == len(splits.train)
    assert "index" in judged(folder / "model", place / "photos")["unknown"]
    refused = run("train", str(place / "index"), "--resume", str(folder))
    assert refused.code != 0


AUDIT = """
import json, os, sys, threading
from collections import Counter
seen = Counter()
root = sys.argv[1]
def hook(event, args):
    if event in ("open", "os.listdir", "os.scandir", "os.stat") and args and root in str(args[0]):
        seen[event + " " + os.path.basename(str(args[0]))] += 1
sys.addaudithook(hook)
from vitrail.training.plan.plan_run import plan_run
from vitrail.training import run_files
plan = plan_run([("command line", {"data.path": root, "epochs": 1.0, "device": "cpu"})])
before = dict(seen)
checked = run_files.checked_plan(plan)
print(json.dumps({"planned": before, "checked": dict(seen)}))
"""


def test_no_shard_is_listed_and_none_opened_but_for_the_sample(place: Path) -> None:
    """Before training some hundred images are looked at for sizes and colours, all others not."""
    answer = subprocess.run(
        [sys.executable, "-c", AUDIT, str(place / "shards")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    told = json.loads(answer.stdout.splitlines()[-1])
    assert not [
        event for event in told["planned"] if event.startswith(("os.listdir", "os.scandir"))
    ]
    assert told["planned"] == told["checked"]


LANES = {
    "data.order": "lanes",
    "data.lanes": 4,
    "data.window": 7,
    "optim.accumulate": 4,
    "batch_size": 8,
    "exact": True,
    "residual_baseline": False,
    "data.image_size": 8,
    "steps": 7,
}


LANED = ("data.lanes", "data.window")  # which have no effect in another order
SETTINGS = {key: value for key, value in running.TINY.items() if key != "data.path"} | LANES


def from_shard_to_shard(folder: Path, data: str, name: str, **more: Any) -> Path:
    """A tiny run in the order of lanes."""
    settings = {**SETTINGS, "data.path": data, "data.workers": 0}
    return loop.train(
        [("test", settings)], runs_dir=folder, name=name, with_report=False, **more
    ).run_dir


@pytest.fixture(scope="module")
def straight(place: Path) -> Path:
    return from_shard_to_shard(place / "runs", str(place / "shards"), "straight")


@pytest.mark.promise("R5")
def test_from_shard_to_shard_a_stopped_run_goes_on_with_the_same_bits(
    place: Path, straight: Path, tmp_path: Path
) -> None:
    stop = running.StopAt(4)
    run = from_shard_to_shard(tmp_path, str(place / "shards"), "run", reporter=stop)
    assert running.records(run) != running.records(straight)
    assert running.resume(run).steps == 7
    assert running.records(run) == running.records(straight)
    assert running.weights(run) == running.weights(straight)
    full = {"data.order": "full", "data.path": str(place / "shards"), "steps": 2}
    settings = {key: value for key, value in SETTINGS.items() if key not in LANED} | full
    other = loop.train([("test", settings)], runs_dir=tmp_path, name="full", with_report=False)
    assert running.records(other.run_dir)[0] != running.records(straight)[0]


def test_only_shards_have_lanes(place: Path) -> None:
    asked = ("--data.order", "lanes", "--batch-size", "8", "--data.lanes")
    assert "VIT-227" in run("train", str(place / "photos"), *asked, "8").err
    assert "VIT-219" in run("train", str(place / "shards"), *asked, "3").err


@pytest.mark.slow
@pytest.mark.promise("R7")
@pytest.mark.parametrize("world", [2, 4])
def test_from_shard_to_shard_processes_have_the_bits_of_one(
    place: Path, straight: Path, tmp_path: Path, world: int
) -> None:
    settings = {**SETTINGS, "data.workers": 2}
    options = [
        word
        for key, value in settings.items()
        for word in (f"--{key.replace('_', '-')}", str(value).lower())
    ]
    line = ["train", str(place / "shards"), "--name", "run", *options, "--nproc", str(world)]
    code, text = ended(started(tmp_path, *line))
    assert code == 0, text
    run = tmp_path / "runs/run"
    assert running.records(run) == running.records(straight)
    assert running.weights(run) == running.weights(straight)

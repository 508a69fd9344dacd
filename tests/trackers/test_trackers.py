"""Figures for other tools: each is read back by its own reader, from files of this machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run as cli
from tests.training.running import TINY, records, resume, train, weights
from vitrail.errors import UsageError
from vitrail.trackers import registry
from vitrail.trackers.registry import TRACKERS, trackers_of
from vitrail.trackers.tracker import Tracked
from vitrail.training.reporter import SilentReporter

FEW: dict[str, Any] = {"steps": 24, "save_every_steps": 6}


class Memory:
    """Remembers what it was told."""

    name = "memory"

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def begin(self, run_dir: Path, settings: Mapping[str, str], step: int) -> None:
        self.told.append(("begin", (run_dir.name, settings["batch_size"], step)))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.told.append(("log", (step, dict(figures))))

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self.told.append(("end", (status, dict(figures))))


class Broken(Memory):
    """Fails when it is told a figure."""

    name = "broken"

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        raise RuntimeError("no room\nfor this")


class Heard(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


def figures(run: Path) -> dict[tuple[str, int], float]:
    """(name, step) -> value, of metrics.jsonl, without what only the file has."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        (key, line["step"]): float(value)
        for line in lines
        for key, value in line.items()
        if "/" in key and key != "perf/eval_images_per_s"
    }


def test_a_tracker_is_told_every_figure_and_one_that_fails_is_left_out(tmp_path: Path) -> None:
    plain = train(tmp_path, "plain", **FEW).run_dir
    memory, heard = Memory(), Heard()
    run = train(tmp_path, reporter=Tracked(heard, [Broken(), memory]), **FEW).run_dir
    assert weights(run) == weights(plain)
    assert records(run) == records(plain)
    assert [what for what, _ in memory.told] == ["begin", *["log"] * (len(memory.told) - 2), "end"]
    assert memory.told[0][1] == ("run", str(TINY["batch_size"]), records(run)[0]["step"])
    found = {
        (name, step): value
        for what, told in memory.told
        if what == "log"
        for step, values in [told]
        for name, value in values.items()
    }
    assert found == figures(run)
    status, test = memory.told[-1][1]
    assert status == "finished"
    assert 0 <= test["test/top1"] <= 1
    said = [text for text in heard.said if "broken" in text]
    assert said == ["broken gets no more figures of this run: RuntimeError: no room"]


def test_names_are_checked_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Did you mean tensorboard"):
        trackers_of("mlflow,tensorbord")
    assert trackers_of("") == []
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    done = cli("train", "builtin:digits", "--track", "wandb")
    assert done.code == 5
    assert "error VIT-520: --track wandb needs the package wandb" in done.err
    assert "pip install" in done.err


def tracked(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on the command line that one tracker follows, without a connection out."""
    pytest.importorskip(name)
    monkeypatch.chdir(folder)
    options = {**TINY, **FEW, "residual_baseline": "false"}
    del options["data.path"]
    words = [
        word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)
    ]
    done = cli("train", "builtin:digits", "--name", "run", "--track", name, *words)
    assert done.code == 0, done.err
    assert "gets no more figures" not in done.err + done.out, done.err + done.out
    return folder / "runs" / "run"


def test_tensorboard_reads_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracked(tmp_path, "tensorboard", monkeypatch)
    found = scalars(run)
    assert {name for name, _ in figures(run)} <= {name for name, _ in found}
    for (name, step), value in figures(run).items():
        assert found[name, step] == pytest.approx(value, rel=1e-6)  # float32
    assert ("test/top1", 0) in found


def scalars(run: Path) -> dict[tuple[str, int], float]:
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(run / "tensorboard"))
    reader.Reload()
    return {
        (name, one.step): one.value
        for name in reader.Tags()["scalars"]
        for one in reader.Scalars(name)
    }


def test_tensorboard_takes_back_what_a_killed_run_wrote_after_its_checkpoint(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard")
    from tests.training.running import StopAt

    run = train(tmp_path, reporter=Tracked(StopAt(12), trackers_of("tensorboard")), **FEW).run_dir
    resume(run, Tracked(SilentReporter(), trackers_of("tensorboard")))
    assert len(list((run / "tensorboard").iterdir())) == 2
    expected = {key: value for key, value in figures(run).items() if "perf" not in key[0]}
    found = scalars(run)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-6)


def test_mlflow_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracked(tmp_path, "mlflow", monkeypatch)
    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "runs/mlruns").as_uri())
    experiment = client.get_experiment_by_name("vitrail")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params["batch_size"] == str(TINY["batch_size"])
    written = {
        (name, one.step): one.value
        for name in found.data.metrics
        for one in client.get_metric_history(found.info.run_id, name)
    }
    assert {key: written[key] for key in figures(run)} == figures(run)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_wandb_wrote_what_it_would_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")  # which is not asked for on the command line
    run = tracked(tmp_path, "wandb", monkeypatch)
    (file,) = (tmp_path / "runs/wandb").glob("offline-run-*/*.wandb")
    written: dict[tuple[str, int], float] = {}
    for record in ended_records(file):
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            written[name, record.history.step.num] = json.loads(item.value_json)
    assert {key: written[key] for key in figures(run)} == pytest.approx(figures(run))


def ended_records(file: Path) -> list[Any]:
    """The records of a W&B file, by its own message format, once W&B's service, which writes it in
    a process of its own, has written the last one.
    """
    from wandb.proto import wandb_internal_pb2

    for _ in range(200):
        found = []
        for content in framed(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            found.append(record)
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise TimeoutError(file)


def framed(content: bytes) -> list[bytes]:
    """The records of a W&B file, a log of LevelDB behind seven bytes: blocks of 32 KiB, each record
    in one piece (1) or a first, middle and last one (2, 3, 4).
    """
    found, place, piece = [], 7, b""
    while place + 7 <= len(content):
        rest = 32768 - place % 32768
        if rest < 7:
            place += rest
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        if not kind:
            break
        piece += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            found.append(piece)
            piece = b""
    return found


def test_every_tracker_has_an_extra() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert all(f"\n{name} = [" in text for name in TRACKERS)

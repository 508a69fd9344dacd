"""`vitrail doctor --self-test`: it passes here, and sees what it is to see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run
from vitrail.errors import EnvironmentFault, GateError
from vitrail.training import self_test as tried
from vitrail.training.self_test import compared, refuse_differences, self_test


def made_run(folder: Path, model: bytes, loss: float, speed: float) -> None:
    """What is compared of a run."""
    (folder / "model").mkdir(parents=True)
    (folder / "model/model.safetensors").write_bytes(model)
    record = {"step": 5, "train/loss": loss, "perf/images_per_s": speed}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")


@pytest.mark.promise("R7")
@pytest.mark.parametrize(
    ("model", "loss", "differs"),
    [(b"same", 2.5, ""), (b"sane", 2.5, "(model)"), (b"same", 2.5000001, "(metrics)")],
)
def test_a_bit_that_differs_is_a_gate_that_is_not_met(
    tmp_path: Path, model: bytes, loss: float, differs: str
) -> None:
    made_run(tmp_path / "whole", b"same", 2.5, 100.0)
    made_run(tmp_path / "killed-1", b"same", 2.5, 90.0)
    made_run(tmp_path / "killed-2", model, loss, 80.0)
    killed, _ = compared(tmp_path, {1: 7, 2: 11})
    assert [one.step for one in killed] == [7, 11]
    if not differs:
        refuse_differences(killed)
        return
    with pytest.raises(GateError, match="VIT-706") as error:
        refuse_differences(killed)
    assert f"2 processes, killed at step 11 and continued: other bits {differs}" in str(error.value)
    assert "1 process, killed" not in str(error.value)


def test_a_run_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tried, "python_command", lambda module: ["sh", "-c", "echo no torch; exit 3"]
    )
    with pytest.raises(EnvironmentFault, match=r"(?s)VIT-515.*ended by itself.*no torch"):
        self_test(lambda line: None)


@pytest.mark.slow
@pytest.mark.promise("R7")
def test_it_passes_on_this_machine_in_a_minute() -> None:
    done = run("doctor", "--self-test", "--json")
    record = done.document
    killed = [
        (one["processes"], one["same_model"], one["same_metrics"]) for one in record["killed"]
    ]
    assert killed == [(1, True, True), (2, True, True)]
    assert all(5 <= one["step"] < record["steps"] for one in record["killed"])
    assert record["secs"] <= 60
    assert done.err.count("same model and metrics, bit for bit") == 2


@pytest.mark.slow
def test_a_run_that_cannot_be_continued_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint damaged behind the kill."""
    kill = tried.kill

    def kill_and_damage(run_dir: Path, *arguments: Any) -> int:
        step = kill(run_dir, *arguments)
        for path in (run_dir / "checkpoints").glob("step-*/optim.safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
        return step

    monkeypatch.setattr(tried, "kill", kill_and_damage)
    done = run("doctor", "--self-test")
    assert done.code == 5
    assert "VIT-515" in done.err
    assert "VIT-405" in done.err

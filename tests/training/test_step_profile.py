"""`--profile N`: a trace of some steps of each process; nothing that is learnt changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run as cli
from tests.training.ranks.in_ranks import in_ranks
from tests.training.running import TINY, records, weights
from vitrail.training import loop
from vitrail.training.ranks.ranks import ALONE, Ranks
from vitrail.training.reporter import SilentReporter
from vitrail.training.storage.step_profile import LEFT_OUT

SETTINGS: dict[str, Any] = {
    **TINY,
    "batch_size": 32,
    "optim.accumulate": 2,
    "residual_baseline": False,
}


class Heard(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


def train(folder: Path, name: str, ranks: Ranks = ALONE, **options: Any) -> Path:
    settings = SETTINGS | options.pop("settings", {})
    return loop.train(
        [("test", settings)],
        runs_dir=folder,
        name=name,
        with_report=False,
        ranks=ranks,
        **options,
    ).run_dir


def trace(path: Path) -> list[dict[str, Any]]:
    """The events of a Chrome trace: each has a name, and complete ones begin and last."""
    document = json.loads(path.read_text(encoding="utf-8"))
    events = [one for one in document["traceEvents"] if one.get("ph") == "X"]
    assert all({"name", "ts", "dur", "pid", "tid"} <= one.keys() for one in events)
    return events


def test_the_steps_asked_for_are_recorded_and_nothing_changes(tmp_path: Path) -> None:
    heard = Heard()
    plain = train(tmp_path, "plain")
    run = train(tmp_path, "profiled", profile=4, reporter=heard)
    assert records(run) == records(plain)
    assert weights(run) == weights(plain)
    (path,) = (run / "profile").iterdir()
    assert path.name == f"steps-{LEFT_OUT + 1}-{LEFT_OUT + 4}.rank-0.json"
    names = [one["name"] for one in trace(path)]
    assert names.count("vitrail: step") == 4
    assert names.count("vitrail: wait for images") == 4
    assert "vitrail: copy of a checkpoint" in names  # of step 6
    assert {"aten::addmm", "aten::scaled_dot_product_attention"} & set(names)
    assert any(str(path) in text and "perfetto" in text for text in heard.said)
    assert not (plain / "profile").exists()


def test_a_run_that_ends_before_leaves_what_there_is(tmp_path: Path) -> None:
    run = train(tmp_path, "short", profile=50)
    (path,) = (run / "profile").iterdir()
    assert path.name == f"steps-{LEFT_OUT + 1}-{TINY['steps']}.rank-0.json"
    assert [one["name"] for one in trace(path)].count("vitrail: step") == 13 - LEFT_OUT
    heard = Heard()
    run = train(tmp_path, "shorter", profile=2, settings={"steps": 2}, reporter=heard)
    assert not (run / "profile").exists()
    assert any(text.startswith("profile: no step was recorded") for text in heard.said)


def test_each_process_writes_a_trace(tmp_path: Path) -> None:
    in_ranks(tmp_path, 2, lambda ranks: train(tmp_path, "run", ranks, profile=2).name)
    paths = sorted((tmp_path / "run/profile").iterdir())
    assert [path.name[-11:] for path in paths] == ["rank-0.json", "rank-1.json"]
    for path in paths:
        assert [one["name"] for one in trace(path)].count("vitrail: step") == 2


@pytest.mark.parametrize("steps", ["-1", "101"])
def test_a_number_that_cannot_be_is_refused(steps: str) -> None:
    done = cli("train", "builtin:digits", "--profile", steps)
    assert done.code == 2
    assert f"error VIT-202: --profile {steps}" in done.err

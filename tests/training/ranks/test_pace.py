"""The slow process of a run is named, and what it is slow at."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.ranks.in_ranks import in_ranks
from tests.training.running import TINY, records
from vitrail.data.loading.array_loader import ArrayLoader
from vitrail.training import loop
from vitrail.training.ranks.pace import slowest_of
from vitrail.training.ranks.ranks import Ranks
from vitrail.training.reporter import SilentReporter
from vitrail.training.tasks.classify import Classify

SLOW_SECS = 0.2


def test_the_slowest_is_the_one_with_more_of_its_own() -> None:
    assert slowest_of([[1.0, 10.0], [201.0, 10.0], [2.0, 10.0]])[:2] == (1, "data")
    assert slowest_of([[1.0, 30.0], [5.0, 11.0], [1.0, 10.0]])[:2] == (0, "compute")
    rank, kind, extra, ratio = slowest_of([[0.0, 10.0], [5.0, 25.0]])
    assert (rank, kind, extra, ratio) == (1, "compute", 20.0, 3.0)


class Heard(SilentReporter):
    """What a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


def slowed(kind: str, ranks: Ranks, patch: pytest.MonkeyPatch) -> None:
    """Make the second process slow."""
    if ranks.is_first or not kind:
        return
    if kind == "data":
        made = ArrayLoader.batches

        def later(self: ArrayLoader, start: int, stop: int) -> Any:
            for batch in made(self, start, stop):
                time.sleep(SLOW_SECS)
                self.data_wait_secs += SLOW_SECS  # as if the disk were slow
                yield batch

        patch.setattr(ArrayLoader, "batches", later)
        return
    computed = Classify.loss

    def late(self: Classify, *inputs: Any) -> Any:
        time.sleep(SLOW_SECS)
        return computed(self, *inputs)

    patch.setattr(Classify, "loss", late)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["data", "compute"])
def test_a_slow_process_is_named_with_its_kind(tmp_path: Path, kind: str) -> None:
    """By the second log line, 15 steps each."""
    settings = {**TINY, "steps": 32, "batch_size": 24, "optim.accumulate": 2}
    settings |= {"eval_every_epochs": 1.0, "save_every_steps": 40, "residual_baseline": False}

    def work(ranks: Ranks) -> list[str]:
        reporter = Heard()
        with pytest.MonkeyPatch.context() as patch:
            slowed(kind, ranks, patch)
            options: dict[str, Any] = {"runs_dir": tmp_path, "name": "run", "with_report": False}
            loop.train([("test", settings)], reporter=reporter, ranks=ranks, **options)
        return reporter.said

    found = in_ranks(tmp_path, 2, work)
    named = [text for text in found[0] if "is slow" in text]
    assert len(named) == 1, found
    assert named[0].startswith("process 1 of 2 (from 0) is slow: the others wait for it ")
    assert f"({kind}: 2" in named[0]  # 2xx ms
    lines = [json.loads(line) for line in (tmp_path / "run/ranks.jsonl").read_text().splitlines()]
    assert [(line["step"], line["rank"]) for line in lines] == [
        (step, rank) for step in (15, 30, 32) for rank in (0, 1)
    ]
    for line in lines[:4]:  # behind the last step no batch is fetched
        assert (line[f"{kind}_ms"] >= 1000 * SLOW_SECS) == (line["rank"] == 1)
        assert line["step_ms"] >= 1000 * SLOW_SECS  # the others wait, and their steps show it
    logged = [
        json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    ]
    first = next(line for line in logged if "perf/slowest_rank" in line)
    assert first["perf/slowest_rank"] == 1
    assert first["perf/slowest_ratio"] > 2
    assert (first["perf/data_wait_max"] > 0.5) == (kind == "data")
    assert first["perf/images_per_s"] <= 24 / SLOW_SECS
    assert records(tmp_path / "run")

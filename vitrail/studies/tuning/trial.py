"""One trial: a training run that never looks at the test images, and ends early where it is worse
than the others were at that point.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.errors import TrainingError
from vitrail.runs.documents import unreadable
from vitrail.studies.engine.row import Axis, Row
from vitrail.training.loop import resume, train
from vitrail.training.plan.plan_run import Layers
from vitrail.training.reporter import SilentReporter
from vitrail.training.storage.metrics_log import all_records
from vitrail.training.storage.run_dir import RunDir

CURVE = "val/top1@"  # and the step: what an evaluation on the way came to
PRUNED, DIVERGED = "pruned", "diverged"
IsWorse = Callable[[int, float], bool]  # told step and validation top-1
Say = Callable[[float], None]  # told the share of the trial that is done


class Pruned(Exception):
    """A trial was worse than the others at the same step."""


@dataclass(frozen=True)
class Trial:
    """number: 0 for the settings as they would be taken. values: what it varies."""

    number: int
    values: Mapping[str, Axis]

    @property
    def key(self) -> str:
        """Name of its run and of its row."""
        return f"{self.number:04d}"


class _Watch(SilentReporter):
    """Hears evaluations, and ends a run that is not worth its time."""

    def __init__(self, is_worse: IsWorse, say: Say) -> None:
        self.is_worse, self.say = is_worse, say

    def step(self, record: Mapping[str, Any]) -> None:
        """A training step."""
        self.say(record["step"] / max(1, record["total_steps"]))

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """An evaluation. Raises Pruned."""
        if self.is_worse(record["step"], record["val/top1"]):
            raise Pruned(f"worse than most others at step {record['step']}")


def run_trial(
    trial: Trial, layers: Layers, folder: Path, seed: int, is_worse: IsWorse, say: Say
) -> Row | str:
    """The row of a trial, or the signal that stopped it; what was begun before is continued.

    folder: of the search. Raises VitrailError for what is no result of the trial.
    """
    run_dir = folder / "runs" / trial.key
    began, ended = time.monotonic(), ""
    try:
        stopped = _train(run_dir, layers, _Watch(is_worse, say))
        if stopped:
            return stopped
    except Pruned:
        ended = PRUNED
    except TrainingError as error:
        if error.code != "VIT-601":
            raise
        ended = DIVERGED
    row = _row(trial, RunDir(run_dir), seed, ended, time.monotonic() - began)
    for name in ("checkpoints", *(("model",) if ended else ())):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    return row


def _train(run_dir: Path, layers: Layers, reporter: SilentReporter) -> str | None:
    """The signal that stopped the run, or None."""
    if (run_dir / "run.json").is_file():
        record = RunDir(run_dir).read("run.json")
        if record["status"] == "finished":
            return None
        if record["status"] != "failed" or str(record["reason"]).startswith("VIT-5"):
            return resume(run_dir, reporter=reporter, with_report=False, with_test=False).stopped
    if run_dir.exists():  # killed before its first line was written, or before its row was
        shutil.rmtree(run_dir)
    result = train(
        layers,
        runs_dir=run_dir.parent,
        name=run_dir.name,
        command="vitrail tune",
        reporter=reporter,
        with_report=False,
        with_test=False,
    )
    return None if result.stopped == "patience" else result.stopped


def _row(trial: Trial, run: RunDir, seed: int, ended: str, seconds: float) -> Row:
    record = run.read("run.json")
    values = curve_of(run)
    found = (record.get("results") or {}).get("val", {})
    if not ended:
        names = ("top1", "nll", "n")
        if not all(type(found.get(name)) in (int, float) for name in names):
            raise unreadable(run.path / "run.json", "it lacks figures of the validation images")
        values |= {f"val/{name}": float(found[name]) for name in names}
    cost = {"seconds": round(float(record["seconds"] or 0.0), 2), "cell_secs": round(seconds, 2)}
    return Row(
        key=trial.key,
        study="tune",
        arm=ended or "finished",
        axes=trial.values,
        seed=seed,
        values=values,
        cost=cost,
        run=f"runs/{trial.key}",
        made={"git": str(record.get("git") or ""), "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
    )


def curve_of(run: RunDir) -> dict[str, float]:
    """Validation top-1 of a run's evaluations by step, of the lines that are whole."""
    found: dict[str, float] = {}
    for record in all_records(run.folder):
        step, top1 = record.get("step"), record.get("val/top1")
        if isinstance(step, int) and isinstance(top1, int | float):
            found[f"{CURVE}{step}"] = float(top1)
    return found

"""What a worker is asked to do, and doing it: train a cell's run, time its model, or measure its
pace.

A job is plain data, because it travels: to a process on this machine as a line of JSON, to a
cluster by Ray. The run directory is the cell's key, so that a job that was killed is continued
from its newest checkpoint, bit for bit, by whoever gets it next.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vitrail import __version__
from vitrail.device import machine
from vitrail.errors import EnvironmentFault, TrainingError
from vitrail.models.cost import activation_bytes, macs, parameters
from vitrail.models.names import config_from_numbers
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.measures import measure, num_judged
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.engine.timing import architecture_of, measure_apart, settled
from vitrail.training.dry_run import dry_run
from vitrail.training.loop import resume, train
from vitrail.training.plan.plan_run import plan_run
from vitrail.training.reporter import SilentReporter
from vitrail.training.run_files import readable
from vitrail.training.storage.run_dir import RunDir

LOCK_SECS = 20.0  # how long a killed worker of the same cell may take to disappear
PACE_STEPS = 6
SPEED = "speed"  # the measure of a model that is timed and not trained (`timing.py`)
Say = Callable[[float], None]  # told the share of the run that is done


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell on its way. folder: of the study. start: key of the cell whose weights it takes.
    transfer: the other data that a measure looks at.
    """

    key: str
    study: str
    arm: str
    axes: Mapping[str, Axis]
    seed: int
    recipe: str
    settings: Mapping[str, Any]
    folder: str
    start: str = ""
    measures: tuple[str, ...] = ()
    transfer: str = ""
    is_pace: bool = False

    @classmethod
    def of(
        cls, cell: Cell, *, key: str, study: str, folder: Path, start: str = "", transfer: str = ""
    ) -> Job:
        """The job of a cell."""
        return cls(
            key=key,
            study=study,
            arm=cell.arm,
            axes=cell.axes,
            seed=cell.seed,
            recipe=cell.recipe,
            settings=cell.settings,
            folder=str(folder.absolute()),
            start=start,
            measures=cell.measures,
            transfer=transfer,
        )

    def row(
        self,
        values: Mapping[str, float],
        cost: Mapping[str, float],
        made: Mapping[str, str],
        run: str = "",
    ) -> dict[str, Any]:
        """The row of what it came to."""
        return Row(
            key=self.key,
            study=self.study,
            arm=self.arm,
            axes=self.axes,
            seed=self.seed,
            values=values,
            cost=cost,
            run=run,
            made=made,
        ).to_json()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Job:
        """The job that `to_json` wrote."""
        return cls(**{**record, "measures": tuple(record.get("measures", ()))})

    @property
    def is_timed(self) -> bool:
        """Whether the model is timed instead of trained."""
        return SPEED in self.measures

    @property
    def layers(self) -> list[tuple[str, dict[str, Any]]]:
        """Settings of the run."""
        given = {**self.settings, "seed": self.seed, "recipe": self.recipe}
        if self.start:
            given["start.model"] = str(Path(self.folder) / "runs" / self.start)
        return [(f"study {self.study}", given)]


class _Progress(SilentReporter):
    """Tells how far a run is."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def step(self, record: Mapping[str, Any]) -> None:
        """A training step."""
        self._say(record["step"] / max(1, record["total_steps"]))


def run_job(job: Job, say: Say) -> dict[str, Any] | None:
    """The row of a cell, or its pace; None where a signal stopped it.

    Raises VitrailError; a run whose loss is not finite is a row without values.
    """
    if job.is_timed:
        return pace_of_timing(job) if job.is_pace else time_cell(job)
    return pace(job) if job.is_pace else run_cell(job, say)


def run_cell(job: Job, say: Say) -> dict[str, Any] | None:
    """Train what is left of the cell's run, measure, and describe it as a row."""
    run_dir = Path(job.folder) / "runs" / job.key
    began = time.monotonic()
    try:
        if not _train(job, run_dir, _Progress(say)):
            return None
        run = RunDir(run_dir)
        values = _values(run)
        values |= measure(job.measures, run_dir, job.transfer)
    except TrainingError as error:
        return _row(job, RunDir(run_dir), {}, began, error.code)
    row = _row(job, run, values, began)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)  # the model is what stays
    return row


def _train(job: Job, run_dir: Path, reporter: SilentReporter) -> bool:
    """Whether the run is finished now."""
    deadline = time.monotonic() + LOCK_SECS
    while True:
        try:
            return _train_once(job, run_dir, reporter)
        except EnvironmentFault as error:
            if error.code != "VIT-504" or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _train_once(job: Job, run_dir: Path, reporter: SilentReporter) -> bool:
    if (run_dir / "run.json").is_file():
        record = RunDir(run_dir).read("run.json")
        if record["status"] == "finished":
            return True
        if record["status"] != "failed" or not diverged(record):
            result = resume(run_dir, reporter=reporter, with_report=False)
            return result.stopped is None
    if run_dir.exists():  # killed before its first line was written, or failed
        shutil.rmtree(run_dir)
    result = train(
        job.layers,
        runs_dir=run_dir.parent,
        name=run_dir.name,
        command=f"vitrail study {job.study}",
        reporter=reporter,
        with_report=False,
    )
    return result.stopped is None


def diverged(record: Mapping[str, Any]) -> bool:
    """Whether a run failed by itself, so that going on would end in the same way."""
    return str(record.get("reason") or "VIT-6").startswith("VIT-6")


def _values(run: RunDir) -> dict[str, float]:
    """Figures of a finished run that do not depend on who computed it."""
    record = run.read("run.json")
    model = {k: v for k, v in record["model"].items() if k not in ("name", "family")}
    config = config_from_numbers(record["model"]["family"], model)
    values: dict[str, float] = {"macs": macs(config), "parameters": parameters(config)}
    values["train/pictures"] = run.read("data.json")["counts"]["train"]
    # Of masked patch prediction these are no figures of classes, and are not called so.
    kind = "patches/" if record["objective"] == "masked_patches" else ""
    for split, found in record["results"].items():
        values |= {
            f"{split}/{kind}{name}": found[name] for name in ("n", "top1", "nll") if name in found
        }
    return values


def _row(
    job: Job, run: RunDir, values: Mapping[str, float], began: float, error: str = ""
) -> dict[str, Any]:
    record = run.read("run.json")
    cost = {
        "seconds": round(float(record["seconds"]), 2),
        "cell_secs": round(time.monotonic() - began, 2),
        **_pace_of_answers(run),
    }
    made = _made(str(record.get("git") or ""))
    if error:
        made["error"] = error
    return job.row(values, cost, made, run=f"runs/{job.key}")


def _pace_of_answers(run: RunDir) -> dict[str, float]:
    """Images that the model answers a second, where it was judged."""
    if not (run.path / "eval" / "val").is_dir():
        return {}
    return {"answers_per_s": float(run.read("eval/val/metrics.json")["images_per_s"])}


def _made(git: str) -> dict[str, str]:
    here = machine()
    return {
        "vitrail": __version__,
        "torch": torch.__version__,
        "git": git,
        "machine": f"{here['cpu']}, {here['cores']} cores",
        "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def time_cell(job: Job) -> dict[str, Any]:
    """The row of a timed model: what this machine has to do with is a cost, not a value."""
    began = time.monotonic()
    config = architecture_of(settled(job.settings))
    figures = measure_apart({**job.settings, "seed": job.seed})
    values = {
        "macs": macs(config),
        "parameters": parameters(config),
        "activation_bytes": activation_bytes(config, 1),
    }
    cost = {**figures, "cell_secs": round(time.monotonic() - began, 2)}
    return job.row(values, cost, _made(""))


def pace_of_timing(job: Job) -> dict[str, Any]:
    """As `pace`, of a timed model."""
    began = time.monotonic()
    batch = int(job.settings["batch_size"])
    found = measure_apart({**job.settings, "seed": 0, "examples": PACE_STEPS // 2 * batch})
    each = 1 / found["predict/images_per_sec"] + 1 / found["train/images_per_sec"]
    spent = time.monotonic() - began
    return {
        "open_secs": max(0.0, spent - found["steps"] * batch * each),
        "secs_per_example": each,
        "secs_per_judged": 0.0,
        "judged": 0,
        "peak_bytes": found["train/bytes"],
    }


def pace(job: Job) -> dict[str, Any]:
    """Seconds: to open the data, of a step with `batch` images, and of judging an image."""
    began = time.monotonic()
    plan = plan_run(job.layers)
    if plan.config.data.on_bad_file == "skip":
        plan = readable(plan).plan
    opened = time.monotonic() - began
    found = dry_run(plan, PACE_STEPS)
    held = sum(len(one) for one in (plan.splits.val, plan.splits.test) if one is not None)
    return {
        "open_secs": opened,
        "secs_per_example": found.step_secs / int(plan.config.batch_size),
        "secs_per_judged": 1 / found.eval_images_per_s if found.eval_images_per_s else 0.0,
        "judged": held + num_judged(job.measures, plan.model, plan.splits),
        "peak_bytes": found.peak_bytes,
    }

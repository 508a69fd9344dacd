"""The promise of exact resume, tried on the user's machine: train, kill -9, continue, compare bits.

Three runs of the same settings on the built-in digits start at the same time: one is left alone;
one process, and two that train together, are ended by SIGKILL as soon as a checkpoint is there.
The killed runs are then continued by as many processes, and the model and the metrics of each must
have the bits of the run left alone (docs/reliability.md, R1 and R7). They are computed on the CPU,
which every machine has, and without baselines and report.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import EnvironmentFault, GateError
from vitrail.spelling import count
from vitrail.system.background import Background, start, wait
from vitrail.system.child_process import python_command
from vitrail.training.ranks.launch import environments

LONGEST_SECS = 60.0
STEPS, KILLED_AFTER = 60, 5
SETTINGS = {
    "data.path": "builtin:digits",
    "steps": STEPS,
    "save_every_steps": 1,
    "batch_size": 22,
    "optim.accumulate": 2,
    "exact": True,
    "model.name": "vit_digits",
    "model.depth": 1,
    "model.width": 16,
    "model.num_heads": 2,
    "model.mlp_dim": 23,
    "model.dropout": 0.1,
    "augment.mixup": 0.2,
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "data.workers": 0,
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Killed:
    """A run that was killed and continued. step: its newest checkpoint at that time."""

    processes: int
    step: int
    same_model: bool
    same_metrics: bool


@dataclass(frozen=True)
class SelfTest:
    """What was found. sha256: of the model of the run that was left alone."""

    steps: int
    sha256: str
    killed: tuple[Killed, ...]
    secs: float


def self_test(say: Say, longest_secs: float = LONGEST_SECS) -> SelfTest:
    """Train, kill, continue and compare, with 1 and 2 processes. say: hears of each part.

    Raises GateError VIT-706 where the bits differ, EnvironmentFault VIT-515 where a run does not
    end well or in time.
    """
    began = time.monotonic()
    until = began + longest_secs
    going: list[Background] = []
    with tempfile.TemporaryDirectory(prefix="vitrail-") as place:
        folder = Path(place)
        try:
            whole = begin(folder, "whole", 1, going)
            runs = {number: begin(folder, f"killed-{number}", number, going) for number in (1, 2)}
            say(f"training {STEPS} steps of a tiny model: one run to its end, two to be killed")
            steps = {
                number: kill(folder / "runs" / f"killed-{number}", run, until)
                for number, run in runs.items()
            }
            for number, step in steps.items():
                say(f"killed a run of {count(number, 'process')} at step {step} (SIGKILL)")
            ends = {
                number: begin(folder, f"killed-{number}", number, going, "again") for number in runs
            }
            for run in (whole, *ends.values()):
                finish(run, until, longest_secs)
        finally:
            for run in going:
                run.kill()
        killed, sha256 = compared(folder / "runs", steps)
    for one in killed:
        say(sentence(one))
    refuse_differences(killed)
    return SelfTest(STEPS, sha256, killed, round(time.monotonic() - began, 1))


def compared(runs: Path, steps: Mapping[int, int]) -> tuple[tuple[Killed, ...], str]:
    """The killed runs against the one left alone, and the sha256 of its model. steps: where each
    was killed, by its number of processes.
    """
    model, metrics = of_run(runs / "whole")
    found = {number: of_run(runs / f"killed-{number}") for number in steps}
    killed = tuple(
        Killed(number, steps[number], one[0] == model, one[1] == metrics)
        for number, one in found.items()
    )
    return killed, model


def refuse_differences(killed: Sequence[Killed]) -> None:
    """Raise GateError VIT-706 where a continued run has other bits."""
    differ = [sentence(run) for run in killed if not (run.same_model and run.same_metrics)]
    if differ:
        raise GateError(
            "VIT-706",
            f"self-test: {'; '.join(differ)}.",
            hint="Runs on this machine cannot be continued bit for bit. Please report it with the "
            "output of vitrail doctor --json",
        )


def sentence(run: Killed) -> str:
    """What became of a killed run."""
    differ = [
        name
        for name, same in (("model", run.same_model), ("metrics", run.same_metrics))
        if not same
    ]
    end = (
        f"other bits ({' and '.join(differ)})" if differ else "same model and metrics, bit for bit"
    )
    return f"{count(run.processes, 'process')}, killed at step {run.step} and continued: {end}"


def begin(
    folder: Path, name: str, processes: int, going: list[Background], store: str = "store"
) -> Background:
    """Start so many processes that train a run, or continue it where it is there (`main`). Nobody
    starts them again when they are killed.
    """
    alone: Sequence[Mapping[str, str]] = [{}]
    place = folder / f"{store}-{name}"
    several = environments(processes, place, folder / f"run-{name}") if processes > 1 else alone
    command = [*python_command("vitrail.training.self_test"), name]
    run = start(command, several, folder, folder / f"{name}.log")
    going.append(run)
    return run


def kill(run_dir: Path, run: Background, until: float) -> int:
    """End a run by SIGKILL once it has a checkpoint of step KILLED_AFTER; its newest checkpoint.
    Raises EnvironmentFault VIT-515.
    """
    wait(lambda: newest(run_dir) >= KILLED_AFTER or not run.is_running, until)
    is_over = not run.is_running
    run.kill()
    if is_over or newest(run_dir) < KILLED_AFTER:
        raise _failed(run, "ended by itself" if is_over else "came to no checkpoint in time")
    return newest(run_dir)


def newest(run_dir: Path) -> int:
    """The step of the newest checkpoint of a run; 0 where it has none."""
    found = (run_dir / "checkpoints").glob("step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def finish(run: Background, until: float, longest_secs: float) -> None:
    """Wait for the end of a run. Raises EnvironmentFault VIT-515 where it fails or takes long."""
    if not wait(lambda: not run.is_running, until):
        raise _failed(run, f"was not done after {longest_secs:.0f} s")
    if any(run.codes()):
        raise _failed(run, f"ended with exit code {next(code for code in run.codes() if code)}")


def of_run(run_dir: Path) -> tuple[str, list[dict[str, object]]]:
    """The sha256 of a run's model, and its metrics without what a stopwatch measured."""
    model = (run_dir / "model/model.safetensors").read_bytes()
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    kept = [
        {key: value for key, value in record.items() if not key.startswith("perf/")}
        for record in records
    ]
    return hashlib.sha256(model).hexdigest(), kept


def _failed(run: Background, what: str) -> EnvironmentFault:
    lines = run.log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = "\n".join(f"  {line}" for line in lines[-6:])
    return EnvironmentFault(
        "VIT-515",
        f"self-test: run {run.log.stem} {what}. Its last lines:\n{said}",
        hint="Try it again when the machine has less to do; vitrail doctor shows what is missing",
    )


def main(name: str) -> None:
    """One of the processes of run `name` in this folder: train it, or go on with it."""
    from vitrail.training import loop  # here, as those who start the processes need no torch
    from vitrail.training.ranks.ranks import joined, ranks_of_environment

    runs = Path("runs")
    with joined(ranks_of_environment()) as ranks:
        if ranks.is_first and newest(runs / name):
            loop.resume(runs / name, with_report=False, ranks=ranks)
        else:
            layers = [("self-test", SETTINGS)]
            loop.train(layers, runs_dir=runs, name=name, with_report=False, ranks=ranks)


if __name__ == "__main__":
    main(sys.argv[1])

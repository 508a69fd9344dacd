"""A time limit on machines whose pace changes: simulated ones, so that nothing depends on this one.

`follow` does what `loop._run` and `finish` do, step by step, with work that takes simulated time.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.training.running import TINY, StopAt, records
from vitrail.settings.layers import resolve
from vitrail.settings.toml_file import read_toml
from vitrail.training import loop
from vitrail.training.control import time_limit
from vitrail.training.control.clock import Clock, share
from vitrail.training.control.time_limit import FEW_STEPS, TimeLimit, duration
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.optim.schedule import lr_on
from vitrail.training.reporter import SilentReporter

LIMIT = 60.0


@dataclass
class Machine:
    """speed: how much work a second is worth at a time; work is counted in seconds of one core."""

    speed: Callable[[float], float] = lambda _: 1.0
    step: float = 0.02
    image: float = 0.0003
    start: float = 3.0
    num_val: int = 2000
    num_test: int = 10_000
    eval_every: int = 860
    time: float = 0.0
    busy: float = 0.0

    def work(self, secs: float) -> None:
        """Work for so long, in slices that a scheduler would give."""
        left = secs
        while left > 1e-12:
            slice_ = min(left, 0.05)
            self.time += slice_ / self.speed(self.time)
            self.busy += slice_
            left -= slice_


@dataclass
class Outcome:
    """steps: done; ended: seconds at the end; tested: images; schedule and its progress after each
    step; evaluations: at which steps; took: seconds in steps.
    """

    steps: int
    ended: float
    tested: int
    schedule: Schedule
    progress: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    stepped: float = 0.0  # when the last step was done


def follow(machine: Machine, secs: float = LIMIT) -> Outcome:
    """A run with a limit of so many seconds on `machine`."""
    clock = Clock(0.0, lambda: machine.time, lambda: machine.busy)
    machine.work(machine.start)
    limit = TimeLimit(
        secs, clock, machine.num_val, machine.num_test, machine.eval_every, image_steps=1 / 192
    )

    def trial() -> Iterator[None]:
        while True:
            machine.work(machine.step)
            yield

    found = Outcome(0, 0.0, 0, limit.calibrate(trial()))
    limit.evaluated(0, 0.0)
    clock.start_steps()
    while True:
        machine.work(machine.step)
        clock.step()
        found.steps += 1
        found.progress.append(found.schedule.progress(found.steps))
        is_last = limit.is_over()
        if is_last:
            found.stepped = machine.time
        else:
            found.schedule = limit.replan(found.schedule, found.steps)
        if is_last or limit.is_evaluation_due(found.steps):
            began = clock.seconds()
            machine.work(machine.num_val * machine.image)
            limit.judged(machine.num_val, clock.seconds() - began)
            limit.evaluated(found.steps, clock.seconds() - began)
            found.evaluations.append(found.steps)
        if is_last:
            break
        clock.start_step()
    deadline = secs - limit.finish_secs() - limit.extras_secs()
    while found.tested < machine.num_test:
        machine.work(128 * machine.image)
        found.tested = min(machine.num_test, found.tested + 128)
        if machine.time >= deadline:
            break
    machine.work(2.0)  # model, report, end of the process
    found.ended = machine.time
    return found


def until(at: float, before: float, after: float) -> Callable[[float], float]:
    return lambda time: before if time < at else after


def flicker(time: float) -> float:
    """Neighbours that come and go every few seconds."""
    return 0.25 if int(time / 3) % 2 else 1.0


MACHINES = {
    "idle": Machine(),
    "half the core": Machine(lambda _: 0.5),
    "beside four, one core": Machine(lambda _: 0.4, start=4.0),
    "slow first second": Machine(until(4.0, 0.02, 1.0), start=0.05),
    "slow start": Machine(until(15.0, 0.1, 1.0), start=0.5),
    "neighbours arrive": Machine(until(25.0, 1.0, 0.35)),
    "neighbours arrive late": Machine(until(45.0, 1.0, 0.5)),
    "neighbours leave": Machine(until(25.0, 0.35, 1.0), start=2.0),
    "neighbours leave late": Machine(until(42.0, 0.35, 1.0), start=2.0),
    "flicker": Machine(flicker),
    "a stall": Machine(lambda time: 0.002 if 20 < time < 24 else 1.0),
    "slow evaluation": Machine(image=0.003),
    "slow steps": Machine(step=0.9, image=0.004, eval_every=100),
    "tiny steps": Machine(step=0.003, image=0.0001, eval_every=20, num_val=180, num_test=180),
    "no held-out images": Machine(num_val=0, num_test=0),
}


@cache
def followed(name: str) -> Outcome:
    return follow(MACHINES[name])


@pytest.mark.promise("R18")
@pytest.mark.parametrize("name", MACHINES)
def test_the_limit_holds_and_is_used(name: str) -> None:
    machine, found = MACHINES[name], followed(name)
    assert found.ended <= 1.1 * LIMIT
    assert found.ended >= 0.8 * LIMIT  # no idle minutes
    assert found.stepped >= 0.35 * LIMIT
    assert found.steps >= FEW_STEPS
    if machine.num_test:
        assert found.tested >= min(500, machine.num_test)


@pytest.mark.promise("R18")
@pytest.mark.parametrize("name", MACHINES)
def test_the_schedule_ends_when_the_time_does(name: str) -> None:
    progress = followed(name).progress
    assert progress[-1] > 0.95
    assert all(a <= b for a, b in zip(progress, progress[1:], strict=False))
    assert progress[0] <= 1 / FEW_STEPS + 1e-9
    early = sum(1 for share_ in progress if share_ < 0.999)
    assert early > 0.9 * len(progress)  # the last rate, which teaches nothing, comes at the end


def test_a_step_follows_the_schedule_that_is_saved() -> None:
    found = follow(Machine(flicker))
    assert len(found.schedule.pieces) < 400
    again = Schedule.from_json(json.loads(json.dumps(found.schedule.to_json())))
    assert [again.progress(step) for step in range(1, found.steps + 1)] == found.progress


def test_small_data_are_not_judged_most_of_the_time() -> None:
    machine = Machine(step=0.004, image=0.001, eval_every=22, num_val=180, num_test=180)
    found = follow(machine)
    assert len(found.evaluations) * 180 * machine.image < 0.2 * LIMIT
    assert len(found.evaluations) > 5


@pytest.mark.promise("R18")
@pytest.mark.parametrize(("step", "secs"), [(8.0, 60.0), (30.0, 60.0), (0.3, 5.0), (2.0, 3.0)])
def test_a_limit_that_is_too_short_is_told_before_and_after(step: float, secs: float) -> None:
    machine = Machine(step=step, image=step / 200)
    clock = Clock(0.0, lambda: machine.time, lambda: machine.busy)
    machine.work(machine.start)
    limit = TimeLimit(secs, clock, 2000, 10_000, 860, image_steps=1 / 192)
    steps = iter(lambda: machine.work(machine.step), 0)
    limit.calibrate(steps)
    assert machine.time - machine.start <= step + 0.1 * secs  # no more trials than needed
    words = limit.warning(max(1, limit.affordable(0)))
    assert "too short to learn anything" in words
    assert "--time-limit " in words.split("try")[1]
    done = follow(Machine(step=step, image=step / 200), secs)
    assert 1 <= done.steps < FEW_STEPS
    assert "too short" in limit.warning(done.steps)
    assert limit.warning(FEW_STEPS) == ""


@pytest.mark.promise("R18")
def test_no_step_uses_up_the_schedule_however_slow_the_last_ones_were() -> None:
    machine = Machine(until(20.0, 0.002, 1.0), step=0.02)  # ten seconds a step, then fifty a second
    clock = Clock(0.0, lambda: machine.time, lambda: machine.busy)
    limit = TimeLimit(LIMIT, clock, 0, 0, 860, image_steps=1 / 192)
    schedule = Schedule.of(2000)
    clock.start_steps()
    for step in (1, 2, 3):
        machine.work(machine.step)
        clock.step()
        schedule = limit.replan(schedule, step)
        assert schedule.progress(step + 1) - schedule.progress(step) <= 1 / FEW_STEPS + 1e-9


def test_shares_lie_between_0_and_1() -> None:
    assert [share(a, b) for a, b in ((1, 2), (3, 2), (-1, 2), (1, 0), (0, 0))] == [0.5, 1, 0, 0, 0]


def test_the_pace_forgets_and_the_first_step_does_not_count() -> None:
    machine = Machine(until(10.0, 0.1, 1.0), step=0.1)
    clock = Clock(0.0, lambda: machine.time, lambda: machine.busy)
    machine.work(0.5)
    assert math.isnan(clock.pace())
    clock.start_steps()
    for _ in range(300):
        machine.work(machine.step)
        clock.step()
    assert clock.pace() == pytest.approx(0.1, rel=0.05)
    assert clock.slowness(1) == pytest.approx(1.0, rel=0.05)
    assert clock.secs_per_step() > 0.11


@pytest.mark.parametrize(
    ("secs", "text"), [(3.2, "4s"), (59, "59s"), (61, "2m"), (3600, "1h"), (5000, "1.4h")]
)
def test_a_duration_can_be_typed(secs: float, text: str) -> None:
    assert duration(secs) == text


class Listener(SilentReporter):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notice(self, text: str) -> None:
        """One more."""
        self.told.append(text)


def timed(folder: Path, secs: str, **more: object) -> tuple[Path, Listener]:
    layer = {key: value for key, value in TINY.items() if key not in ("steps", "save_every_steps")}
    reporter = Listener()
    layers = [("test", {**layer, "time_limit": secs, **more})]
    return loop.train(layers, runs_dir=folder, name="run", reporter=reporter).run_dir, reporter


@pytest.mark.promise("R18")
def test_what_the_clock_decided_is_recorded(tmp_path: Path) -> None:
    run, reporter = timed(tmp_path, "5s")
    record = json.loads((run / "run.json").read_text())
    schedule = Schedule.from_json(record["time_limit"]["schedule"])
    config = resolve([("config.toml", read_toml(run / "config.toml"))])[0]
    rates = {one["step"]: one["optim/lr"] for one in records(run) if "optim/lr" in one}
    for step, rate in rates.items():
        assert rate == lr_on(schedule, step, config.optim.lr, config.schedule)
    for sentence in record["time_limit"]["left_out"]:
        assert sentence in reporter.told
        assert "time limit" in sentence
    assert json.loads((run / "eval" / "test" / "metrics.json").read_text())["n"] > 0


@pytest.mark.promise("R18")
def test_a_run_without_time_says_so_and_still_ends_whole(tmp_path: Path) -> None:
    run, reporter = timed(tmp_path, "1s")
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert (run / "model" / "model.json").is_file()
    assert (run / "report.html").is_file()
    steps = [one["step"] for one in records(run)][-1]
    if steps < FEW_STEPS:
        assert sum("too short to learn anything" in text for text in reporter.told) >= 1


def test_a_time_limited_run_goes_on_with_the_plan_it_was_made(tmp_path: Path) -> None:
    layer = {key: value for key, value in TINY.items() if key != "steps"}
    layers = [("test", {**layer, "time_limit": "8s"})]
    run = loop.train(layers, runs_dir=tmp_path, name="run", reporter=StopAt(6)).run_dir
    saved = sorted((run / "checkpoints").glob("step-*"))[-1]
    before = json.loads((saved / "state.json").read_text())
    result = loop.resume(run)
    assert result.steps > before["step"]
    after = json.loads((run / "run.json").read_text())["time_limit"]["schedule"]
    done = [piece for piece in before["schedule"] if piece[0] < before["step"]]
    assert after[: len(done)] == done


def test_validation_under_a_limit_is_a_sample_that_the_clock_has_no_say_in(tmp_path: Path) -> None:
    from vitrail.training.plan.plan_run import plan_run

    layer = {key: value for key, value in TINY.items() if key != "steps"}
    short = plan_run([("test", {**layer, "time_limit": "1s"})])
    assert short.splits.val is not None
    whole = time_limit.validation(plan_run([("test", TINY)]))
    assert whole is not None
    assert len(whole) == len(short.splits.val)
    sampled = time_limit.validation(short)
    assert sampled is not None
    assert len(sampled) <= len(whole)


@pytest.mark.slow
@pytest.mark.promise("R18")
@pytest.mark.parametrize("neighbours", [0, 4])
def test_a_command_keeps_its_limit_beside_busy_processes(tmp_path: Path, neighbours: int) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    try:
        began = time.monotonic()
        command = ["-m", "vitrail", "train", "builtin:digits", "--time-limit", "60s", "--out", "r"]
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        passed = time.monotonic() - began
    finally:
        for one in busy:
            one.kill()
            one.wait()
    assert passed <= 66
    assert "test/top1" in done.stdout
    assert "too short" not in done.stderr

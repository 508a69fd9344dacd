"""A run that must end in time: measure steps, plan its length, correct the plan as it goes.

The plan is part of the checkpoint, so a resumed run follows the plan that was made. What comes
after training (test split, baselines, report) is reserved before, and if the machine slows down at
the very end the run stops early.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vitrail.training.schedule import Plan as Schedule

if TYPE_CHECKING:
    from vitrail.training.plan import Plan
    from vitrail.training.state import TrainState, Window

WARMUP_STEPS, TIMED_STEPS = 3, 10
SLACK = 0.01  # share of the limit kept back
FINISH_SECS = 8.0  # baselines, model folder, report
CHANGE = 0.02  # a plan is corrected when its length would change by more
SETTLED = 0.9  # share of the run after which the plan is left alone


class Clock:
    """Seconds of a run, those before a resume included, and its pace without evaluations."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()
        self._before = 0.0
        self._lap: tuple[float, float, float] = (self._start, 0.0, 0.0)
        self._steps, self._step_secs = 0, 0.0
        self._judged, self._judged_secs, self._evaluations = 0, 0.0, 0

    def add(self, seconds: float) -> None:
        """Count the seconds of the processes before this one."""
        self._before = seconds

    def seconds(self) -> float:
        """Seconds of the run so far."""
        return self._before + self._now() - self._start

    def start_steps(self) -> None:
        """The first step begins now."""
        self._lap = (self._now(), 0.0, self._judged_secs)

    def judged(self, pictures: int, seconds: float) -> None:
        """An evaluation took so long."""
        self._judged += pictures
        self._judged_secs += seconds
        self._evaluations += 1

    def lap(self, window: Window, data_wait_secs: float) -> dict[str, Any]:
        """Pace since the last call: images/s, ms a step, share of the time waiting for data."""
        at, waited, judged = self._lap
        now = self._now()
        passed = max(now - at - (self._judged_secs - judged), 1e-9)
        self._lap = (now, data_wait_secs, self._judged_secs)
        self._steps += window.steps
        self._step_secs += passed
        return {
            "perf/images_per_s": round(window.examples / passed, 1),
            "perf/step_ms": round(1000 * passed / max(1, window.steps), 2),
            "perf/data_wait": round(min(1.0, (data_wait_secs - waited) / passed), 4),
        }

    def step_secs(self) -> float:
        """Seconds of all recorded steps of this process, evaluations left out."""
        return self._step_secs

    def secs_per_step(self) -> float:
        """Mean over the steps so far; NaN before the first record."""
        return self._step_secs / self._steps if self._steps else math.nan

    def secs_per_image(self) -> float:
        """Mean over the pictures evaluated so far."""
        return self._judged_secs / self._judged if self._judged else 0.0

    def eta(self, plan: Plan, steps_left: int) -> float:
        """Seconds until the last step, evaluations on the way included."""
        return steps_left * (self.secs_per_step() + self._eval_secs_per_step(plan))

    def is_over(self, plan: Plan) -> bool:
        """Whether a time limit leaves no room for another step."""
        limit = plan.config.time_limit_secs
        return limit is not None and self.seconds() >= limit - self.reserve(plan)

    def reserve(self, plan: Plan) -> float:
        """Seconds kept for what comes after the last step."""
        pictures = sum(len(s) for s in (plan.splits.val, plan.splits.test) if s is not None)
        finish = min(FINISH_SECS, 0.1 * (plan.config.time_limit_secs or 0.0))
        return (
            SLACK * (plan.config.time_limit_secs or 0.0)
            + finish
            + 1.2 * pictures * self.secs_per_image()
        )

    def affordable(self, plan: Plan, secs_per_step: float) -> int:
        """Steps that still fit."""
        limit = plan.config.time_limit_secs
        assert limit is not None
        left = limit - self.seconds() - self.reserve(plan)
        return max(1, int(left / max(1e-6, secs_per_step + self._eval_secs_per_step(plan))))

    def _eval_secs_per_step(self, plan: Plan) -> float:
        if plan.splits.val is None:
            return 0.0
        return self.secs_per_image() * len(plan.splits.val) / plan.eval_every


def calibrate(plan: Plan, one_step: Callable[[int], None], clock: Clock) -> Schedule:
    """The length of a run with a time limit, from the pace of a few steps on throwaway weights."""
    for step in range(WARMUP_STEPS):
        one_step(step)
    started = time.monotonic()
    for step in range(WARMUP_STEPS, WARMUP_STEPS + TIMED_STEPS):
        one_step(step)
    pace = (time.monotonic() - started) / TIMED_STEPS
    if plan.splits.val is not None:  # a picture costs about a third of what training on it costs
        clock.judged(1, pace / (3 * int(plan.config.batch_size)))
    return Schedule.of(clock.affordable(plan, pace))


def replan(plan: Plan, state: TrainState, clock: Clock) -> Schedule:
    """The plan corrected by the pace so far; the same where it fits or the run is nearly over."""
    if state.schedule.progress(state.step) > SETTLED:
        return state.schedule
    total = state.step + clock.affordable(plan, clock.secs_per_step())
    if abs(total - state.schedule.total_steps) <= CHANGE * state.schedule.total_steps:
        return state.schedule
    return state.schedule.replan(state.step, total)

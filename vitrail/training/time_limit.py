"""A run that must end in time: measure a few steps, plan its length, and correct the plan at every evaluation.

The plan is part of the checkpoint, so a resumed run follows the plan that was made. What is left after training (best
weights, test split, baselines, report) is reserved before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vitrail.training.schedule import Plan as Schedule

if TYPE_CHECKING:
    from vitrail.training.plan import Plan
    from vitrail.training.state import TrainState, Window

WARMUP_STEPS, TIMED_STEPS = 3, 10
SLACK = 0.02  # share of the limit kept back
CHANGE = 0.02  # a plan is corrected when its length would change by more


class Clock:
    """Seconds of a run, those before a resume included, and the pace since the last record."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()
        self._before = 0.0
        self._lap: tuple[float, float] = (self._start, 0.0)
        self._first_lap: tuple[float, int] | None = None
        self.eval_secs_per_image = 0.0

    def add(self, seconds: float) -> None:
        """Count the seconds of the processes before this one."""
        self._before = seconds

    def seconds(self) -> float:
        """Seconds of the run so far."""
        return self._before + self._now() - self._start

    def lap(self, step: int, window: Window, data_wait_secs: float) -> dict[str, Any]:
        """Pace since the last call: images/s, ms a step, share of the time spent waiting for data."""
        at, waited = self._lap
        now = self._now()
        passed = max(now - at, 1e-9)
        self._lap = (now, data_wait_secs)
        if self._first_lap is None:
            self._first_lap = (at, step - window.steps)
        return {
            "perf/images_per_s": round(window.examples / passed, 1),
            "perf/step_ms": round(1000 * passed / max(1, window.steps), 2),
            "perf/data_wait": round(min(1.0, (data_wait_secs - waited) / passed), 4),
        }

    def start_lap(self) -> None:
        """Start measuring the pace now."""
        self._lap = (self._now(), self._lap[1])

    def eta(self, step: int, total_steps: int) -> float:
        """Seconds until `total_steps` at the pace since the first record, evaluations included."""
        if self._first_lap is None or step <= self._first_lap[1]:
            return float("nan")
        at, first = self._first_lap
        return (self._now() - at) / (step - first) * (total_steps - step)

    def is_over(self, plan: Plan, state: TrainState) -> bool:
        """Whether a time limit leaves no room for another step."""
        limit = plan.config.time_limit_secs
        return limit is not None and self.seconds() >= limit - self.reserve(plan)

    def reserve(self, plan: Plan) -> float:
        """Seconds kept for what comes after the last step."""
        limit = plan.config.time_limit_secs or 0.0
        pictures = sum(len(s) for s in (plan.splits.val, plan.splits.test) if s is not None)
        return (
            SLACK * limit
            + 2.0
            + 1.5 * pictures * self.eval_secs_per_image
            + 1e-3 * min(10_000, pictures)
        )


def calibrate(plan: Plan, one_step: Callable[[int], None], clock: Clock) -> Schedule:
    """The length of a run with a time limit, from the pace of a few steps on throwaway weights."""
    for step in range(WARMUP_STEPS):
        one_step(step)
    started = time.monotonic()
    for step in range(WARMUP_STEPS, WARMUP_STEPS + TIMED_STEPS):
        one_step(step)
    pace = (time.monotonic() - started) / TIMED_STEPS
    return Schedule.of(_affordable(plan, 0, pace, clock))


def replan(plan: Plan, state: TrainState, clock: Clock) -> Schedule:
    """The plan corrected by the pace so far; the same where it fits."""
    left = clock.eta(state.step, state.step + 1)
    if left != left:
        return state.schedule
    total = max(state.step + 1, _affordable(plan, state.step, left, clock))
    if abs(total - state.schedule.total_steps) <= CHANGE * state.schedule.total_steps:
        return state.schedule
    return state.schedule.replan(state.step, total)


def _affordable(plan: Plan, step: int, secs_per_step: float, clock: Clock) -> int:
    limit = plan.config.time_limit_secs
    assert limit is not None
    seconds = limit - clock.seconds() - clock.reserve(plan)
    return step + max(1, int(seconds / max(secs_per_step, 1e-6)))

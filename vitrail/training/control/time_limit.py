"""A run that must end in time, from the start of its command to its last file.

Before the first step a few throwaway steps are timed. From then on the length of the run follows
the pace of late: the schedule is planned again while it goes on, so that its last learning rate
comes with the last second, whatever other programs do on these cores. No plan is believed so far
that a step may use up more than a twentieth of the schedule: a slow first second ends no run.

What comes after the last step is kept back before it: the last evaluation, the test images, the
model, the report, and a little for what else one likes to know. Test images are judged in a keyed
order until their time is over, so that those that were judged are a sample of all. What did not fit
is collected in `left_out`, a sentence each, with the command that does it.

All that the clock decides is recorded: the pieces of the schedule in every checkpoint, the number
of images judged in eval/, the rest in run.json. Which validation images are judged while
training follows from the limit and the model, not from the clock, so evaluations can be compared
with each other and with those after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from vitrail.data.sources.open_data import Source, subset
from vitrail.keyed_random import permutation
from vitrail.models.cost import macs
from vitrail.spelling import count
from vitrail.training.control.clock import Clock
from vitrail.training.optim.schedule import StepSchedule as Schedule

if TYPE_CHECKING:
    from vitrail.training.plan.plan_run import Plan

WARMUP_STEPS, TIMED_STEPS = 3, 10
WARMUP_SHARE, TIMED_SHARE = 0.01, 0.03  # of the limit, for these steps at most
FEW_STEPS = 20  # fewer teach nothing; no step uses up more than its share of such a run
CHANGE = 0.02  # a plan is corrected when the steps that are left would change by more
SOONEST_SECS, OFTEN = 0.2, 200  # between corrections, and how many times a run at most
EVALUATING = 0.06  # share of the time for evaluations and their checkpoints
FINISH_SECS = 2.5  # of one core: model, report, end of the process
SLACK, FINISH, EXTRAS, TESTING, RESERVE = 0.01, 0.15, 0.05, 0.15, 0.5  # shares of the limit
MOST_EXTRAS_SECS = 60.0
# To choose how many validation images are judged: multiply-adds a second, and seconds of a file.
VALIDATING, LEAST_VALIDATED = 0.02, 256
CPU_MACS, GPU_MACS, DECODE_SECS = 1e10, 1e12, 5e-3


@dataclass
class TimeLimit:
    """A limit in seconds and what is kept back of it. num_val, num_test: images that are judged
    in an evaluation and in the end; eval_every: steps between evaluations; image_steps: what
    judging an image costs, in steps.
    """

    secs: float
    clock: Clock
    num_val: int
    num_test: int
    eval_every: int
    image_steps: float
    threads: int = 1
    left_out: list[str] = field(default_factory=list)
    _planned_at: float = -math.inf
    _eval_secs: float = 0.0  # of the last evaluation and its checkpoint
    _evaluated: tuple[int, float] = (0, 0.0)  # at which step and second

    def steps_left_secs(self) -> float:
        """Seconds that are left for steps."""
        return self.secs - self.clock.seconds() - self.reserve()

    def is_over(self) -> bool:
        """Whether there is no room for another step."""
        pace = self.clock.pace()
        return self.steps_left_secs() < (0.0 if math.isnan(pace) else pace)

    def reserve(self) -> float:
        """Seconds kept for what comes after the last step."""
        evaluation = self._judging_secs(self.num_val, VALIDATING)
        test = min(self._judging_secs(self.num_test, TESTING), TESTING * self.secs)
        return min(evaluation + test + self.finish_secs() + self.extras_secs(), RESERVE * self.secs)

    def finish_secs(self) -> float:
        """Seconds for the model, the report and the end of the process."""
        slow = self.clock.slowness(self.threads)
        return min(FINISH_SECS * slow, FINISH * self.secs) + SLACK * self.secs

    def extras_secs(self) -> float:
        """Seconds kept for baselines, a look back at the data and explanations."""
        return min(MOST_EXTRAS_SECS, EXTRAS * self.secs)

    def left_secs(self) -> float:
        """Seconds left for all but the model and the report."""
        return self.secs - self.clock.seconds() - self.finish_secs()

    def _judging_secs(self, images: int, unknown: float) -> float:
        pace = self.clock.pace()
        return unknown * self.secs if math.isnan(pace) else images * self.image_steps * pace

    def calibrate(self, steps: Iterator[None]) -> Schedule:
        """The first plan, from a few of `steps`, which train throwaway weights."""
        if self.steps_left_secs() > 0:
            times = self._take(steps, WARMUP_STEPS, WARMUP_SHARE)
            if sum(times) <= TIMED_SHARE * self.secs:  # else there is no time for others
                times = self._take(steps, TIMED_STEPS, TIMED_SHARE)
            self.clock.expect(median(times))
        return Schedule.of(max(FEW_STEPS, self.affordable(0)))

    def _take(self, steps: Iterator[None], number: int, most: float) -> list[float]:
        """Seconds of each of so many steps, fewer where they take too much of the limit."""
        times: list[float] = []
        while len(times) < number and sum(times) <= most * self.secs:
            started = self.clock.now()
            next(steps)
            times.append(self.clock.now() - started)
        return times

    def affordable(self, step: int) -> int:
        """Steps after `step` that still fit, evaluations on the way included."""
        pace = self.clock.pace()
        if math.isnan(pace):
            return 0
        evaluation = max(self._eval_secs, self._judging_secs(self.num_val, 0.0))
        evaluation = min(evaluation / self.eval_every, EVALUATING * pace)
        return max(0, int(self.steps_left_secs() / max(1e-6, pace + evaluation)))

    def replan(self, schedule: Schedule, step: int) -> Schedule:
        """The plan corrected by the pace of late; the same where it fits."""
        now, left = self.clock.seconds(), self.secs - self.clock.seconds()
        often = min(self.secs / OFTEN, left / FEW_STEPS)
        is_due = step <= FEW_STEPS or step >= schedule.total_steps - 1
        if not is_due and now - self._planned_at < max(SOONEST_SECS, often):
            return schedule
        if not self.clock.steps or math.isnan(self.clock.pace()):
            return schedule
        self._planned_at = now
        at_least = math.ceil(FEW_STEPS * (1.0 - schedule.progress(step)))
        total = step + max(1, at_least, self.affordable(step))
        if abs(total - schedule.total_steps) <= CHANGE * (total - step):
            return schedule
        return schedule.replan(step, total)

    def is_evaluation_due(self, step: int) -> bool:
        """Whether to evaluate before the end: often enough, but not most of the time, nor so late
        that the last evaluation follows at once.
        """
        if step - self._evaluated[0] < self.eval_every:
            return False
        cost = max(self._eval_secs, self._judging_secs(self.num_val, 0.0))
        is_rare = self.clock.seconds() - self._evaluated[1] >= cost / EVALUATING
        return is_rare and self.steps_left_secs() > 2 * cost

    def judged(self, images: int, seconds: float) -> None:
        """So many images took so long."""
        pace = self.clock.pace()
        if images and pace > 0:
            self.image_steps = seconds / images / pace

    def evaluated(self, step: int, seconds: float) -> None:
        """An evaluation and its checkpoint took so long."""
        self._eval_secs = seconds
        self._evaluated = (step, self.clock.seconds())

    def is_late(self) -> bool:
        """Whether nothing more is to be judged."""
        return self.left_secs() <= 0

    def until(self, source: Source, seed: int) -> tuple[Source, Callable[[], bool]]:
        """`source` in a keyed order, and whether the time for judging it is over."""
        order = permutation(seed, 0, len(source))
        deadline = self.secs - self.finish_secs() - self.extras_secs()
        return subset(source, order), lambda: self.clock.seconds() >= deadline

    def warning(self, steps: int) -> str:
        """What is said of a limit that is too short for learning, of which `steps` fit; else ""."""
        if steps >= FEW_STEPS:
            return ""
        pace = self.clock.pace()
        training = 10 * FEW_STEPS * (0.0 if math.isnan(pace) else pace)
        needs = self.clock.seconds() + self.reserve() + training
        return (
            f"--time-limit {duration(self.secs)} is too short to learn anything: "
            f"{count(steps, 'training step', 'fits')} "
            f"({FEW_STEPS} at the least); try --time-limit {duration(max(2 * self.secs, needs))}"
        )


def limit_of(plan: Plan, clock: Clock, val: Source | None) -> TimeLimit | None:
    """The limit of a run; None where it has none. val: the validation images to judge."""
    config = plan.config
    if config.time_limit_secs is None:
        return None
    test = plan.splits.test
    return TimeLimit(
        config.time_limit_secs,
        clock,
        num_val=len(val) if val is not None else 0,
        num_test=len(test) if test is not None else 0,
        eval_every=plan.eval_every,
        image_steps=1 / (3 * int(config.batch_size)),  # forward is about a third of a step
        threads=int(config.threads),
    )


def validation(plan: Plan) -> Source | None:
    """The validation images that are judged while training: all, or under a time limit a keyed
    sample that takes a small share of it. Follows from the settings alone.
    """
    val, config = plan.splits.val, plan.config
    if val is None or config.time_limit_secs is None:
        return val
    threads = int(config.threads)
    secs = macs(plan.model) / (CPU_MACS * threads if config.device == "cpu" else GPU_MACS)
    if plan.splits.kind == "files":
        secs += DECODE_SECS / max(1, int(config.data.workers))
    fitting = max(LEAST_VALIDATED, int(VALIDATING * config.time_limit_secs / secs))
    if fitting >= len(val):
        return val
    return subset(val, permutation(config.seed, 1, len(val))[:fitting])


def duration(seconds: float) -> str:
    """A time that can be given to --time-limit: 45s, 2m, 1.5h, rounded up."""
    if seconds < 60:
        return f"{math.ceil(seconds)}s"
    if seconds < 3600:
        return f"{math.ceil(seconds / 60)}m"
    return f"{math.ceil(seconds / 360) / 10:g}h"

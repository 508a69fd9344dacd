"""A run in progress: its plan, its state, what observes them, and how far it is."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import nn

from vitrail.data.loading.loader import ArrayLoader, FileLoader
from vitrail.data.sources.open_data import Source
from vitrail.training.control.clock import Clock
from vitrail.training.control.time_limit import TimeLimit
from vitrail.training.plan.plan_run import Plan
from vitrail.training.ranks.pace import Pace
from vitrail.training.ranks.ranks import Ranks
from vitrail.training.ranks.saver import Saver
from vitrail.training.ranks.share import Share
from vitrail.training.ranks.spread import Spread
from vitrail.training.reporter import Reporter
from vitrail.training.state import TrainState
from vitrail.training.storage.metrics_log import MetricsLog
from vitrail.training.storage.run_dir import RunDir
from vitrail.training.storage.step_profile import StepProfile
from vitrail.training.tasks.task import EvalResult, Task

ENDLESS = sys.maxsize


@dataclass
class RunContext:
    """A run in progress: its plan, its state and what observes them."""

    run: RunDir
    plan: Plan
    clock: Clock
    reporter: Reporter
    device: torch.device
    state: TrainState
    metrics: MetricsLog
    loader: ArrayLoader | FileLoader
    task: Task
    ranks: Ranks
    share: Share  # of each step, what this process computes
    spread: Spread  # how gradients meet
    evaluated: nn.Module  # holds the averaged weights while they are evaluated
    saver: Saver
    profile: StepProfile
    val: Source | None  # what is judged in an evaluation
    limit: TimeLimit | None
    pace: Pace | None = None  # of each process, where there are several
    best: tuple[int, EvalResult] | None = None  # step and result, kept where time is short
    saved_at: float = 0.0  # seconds of the run
    eval_secs: float = 0.0  # of the last evaluation and its checkpoint

    @property
    def is_at_end(self) -> bool:
        """Whether the last step has been done."""
        if self.limit is not None:
            return self.limit.is_over()
        return self.state.step >= self.state.schedule.total_steps

    @property
    def has_no_patience(self) -> bool:
        """Whether validation has not become better for too long."""
        patience = self.plan.config.patience
        return bool(patience) and self.state.stale >= patience

    @property
    def is_evaluation_due(self) -> bool:
        """Whether to evaluate after this step."""
        if self.limit is not None:
            return self.limit.is_evaluation_due(self.state.step)
        return self.state.step % self.plan.eval_every == 0

    @property
    def is_save_due(self) -> bool:
        """Whether to write a checkpoint after this step."""
        config = self.plan.config
        if config.save_every_steps and self.state.step % config.save_every_steps == 0:
            return True
        return self.clock.seconds() - self.saved_at >= config.save_every_secs

    @property
    def last_step(self) -> int:
        """Where the run will end as far as that is known; here, where it was killed at its end."""
        is_over = self.limit is not None and self.state.step > 0 and self.is_at_end
        if is_over or self.has_no_patience:
            return self.state.step
        return self.plan.total_steps or ENDLESS

    @property
    def eta_secs(self) -> float:
        """Seconds until the last step, evaluations on the way included."""
        if self.limit is not None:
            return max(0.0, self.limit.steps_left_secs())
        left = self.state.schedule.total_steps - self.state.step
        return left * (self.clock.secs_per_step() + self.eval_secs / self.plan.eval_every)

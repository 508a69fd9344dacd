"""`--dry-run`: prove in seconds that a run would go through.

Two training steps, one evaluated batch, the pace, the memory.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch

from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.data.sources.open_data import subset
from vitrail.device import keep_freed_memory, set_threads
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.plan.plan_run import Plan
from vitrail.training.plan.starting_weights import starting_weights
from vitrail.training.ranks.share import share_of
from vitrail.training.state import start_state
from vitrail.training.step import trial
from vitrail.training.tasks.registry import task_of
from vitrail.training.tasks.validation import EVAL_BATCH

NUM_STEPS = 2


@dataclass(frozen=True)
class DryRun:
    """What was measured. seconds: of the whole run as planned, None under a time limit."""

    step_secs: float
    total_steps: int | None
    seconds: float | None
    peak_bytes: int
    eval_images_per_s: float


def dry_run(plan: Plan, num_steps: int = NUM_STEPS) -> DryRun:
    """Train `num_steps` on throwaway weights and evaluate one batch.

    Raises what a run would raise there.
    """
    config, device = plan.config, torch.device(plan.config.device)
    keep_freed_memory()
    set_threads(config.threads)
    loader = make_loader(
        plan.splits.train,
        plan.preprocess,
        config.augment,
        Batching(
            batch_size=int(config.batch_size),
            seed=config.seed,
            max_pixels=config.data.max_pixels,
            slots=share_of(config).slots,
        ),
    )
    task = task_of(plan, device)
    weights, _ = starting_weights(config, plan.model, plan.splits.classes)
    state = start_state(config, plan.model, Schedule.of(1), device, weights)
    steps = trial(state, loader, task, config, 1 + num_steps)
    next(steps)
    started = time.monotonic()
    for _ in steps:
        pass
    step_secs = (time.monotonic() - started) / num_steps
    judged = 0.0
    if plan.splits.val is not None:
        few = subset(plan.splits.val, torch.arange(min(EVAL_BATCH, len(plan.splits.val))).numpy())
        judged = task.judge(state.model, few).images_per_s
    total = plan.total_steps
    seconds = None
    if total is not None:
        evaluations = -(-total // plan.eval_every)
        images = len(plan.splits.val) if plan.splits.val is not None else 0
        seconds = total * step_secs + (evaluations * images / judged if judged else 0.0)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return DryRun(step_secs, total, seconds, peak, judged)

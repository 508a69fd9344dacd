"""A learning rate for these pictures and this model, from one short sweep.

After Smith (arXiv 1506.01186): the rate grows geometrically from step to step on throwaway weights
until the loss blows up. The suggestion is a tenth of the rate at which the smoothed loss was
lowest: there the loss still falls, and a full run has time for a smaller rate.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass

import torch

from vitrail.data.loader import make_loader
from vitrail.device import keep_freed_memory, set_threads
from vitrail.errors import TrainingError
from vitrail.keyed_random import mix as mix_seed
from vitrail.training.optim import set_lr
from vitrail.training.plan import Layers, plan_run
from vitrail.training.reporter import Reporter
from vitrail.training.run_files import without_bad_files
from vitrail.training.schedule import Plan as Schedule
from vitrail.training.start import starting_weights
from vitrail.training.state import start_state
from vitrail.training.step import update
from vitrail.training.tasks import task_of

NUM_STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
SMOOTHING = 0.9  # of the running mean of the loss
BLOWN_UP = 2.0  # times the lowest smoothed loss


@dataclass(frozen=True)
class LrFind:
    """The sweep: rates, smoothed losses in nats, and the rate to use."""

    lrs: list[float]
    losses: list[float]
    suggestion: float


def lr_find(layers: Layers, reporter: Reporter, *, num_steps: int = NUM_STEPS) -> LrFind:
    """Sweep the learning rate of the run that `layers` describe.

    Raises what `plan_run` raises, and TrainingError VIT-602 where the loss never falls.
    """
    plan = without_bad_files(plan_run(layers)).plan
    config = plan.config
    device = torch.device(config.device)
    keep_freed_memory()
    set_threads(config.threads)
    task = task_of(plan, device)
    weights, _ = starting_weights(config, plan.model, plan.splits.classes)
    state = start_state(config, plan.model, Schedule.of(num_steps), device, weights)
    state.model.train()
    loader = make_loader(
        plan.splits.train,
        plan.preprocess,
        config.augment,
        batch_size=int(config.batch_size),
        seed=config.seed,
        workers=int(config.data.workers),
        max_pixels=config.data.max_pixels,
    )
    lrs: list[float] = []
    losses: list[float] = []
    running = 0.0
    with closing(loader.batches(0, num_steps)) as batches:
        for step, batch in enumerate(batches):
            torch.manual_seed(mix_seed(config.seed, step + 1))
            lr = LOWEST * (HIGHEST / LOWEST) ** (step / max(1, num_steps - 1))
            set_lr(state.optimizer, lr)
            parts = task.parts(batch, step + 1)
            loss, _ = update(state.model, state, parts, task.loss, config)
            running = SMOOTHING * running + (1 - SMOOTHING) * float(loss)
            smoothed = running / (1 - SMOOTHING ** (step + 1))
            if not math.isfinite(smoothed) or (losses and smoothed > BLOWN_UP * min(losses)):
                break
            lrs.append(lr)
            losses.append(smoothed)
            reporter.step(
                {
                    "step": step + 1,
                    "total_steps": num_steps,
                    "epoch": 0.0,
                    "train/loss": smoothed,
                    "optim/lr": lr,
                }
            )
    if not losses or min(losses) >= 0.99 * losses[0]:
        raise TrainingError(
            "VIT-602",
            f"no learning rate from {LOWEST:g} to {HIGHEST:g} made the loss fall "
            f"in {num_steps} steps.",
            hint="Look at the pictures and labels (vitrail data show DATA), or use a larger batch.",
        )
    return LrFind(lrs, losses, lrs[losses.index(min(losses))] / 10)

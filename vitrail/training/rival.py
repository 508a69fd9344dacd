"""A baseline that learns: what a small residual network reaches for the multiply-adds of a run.

On small data such a network is ahead of a ViT (docs/budgets.md), and whoever trains one should see
by how much. It is trained on the same images, prepared for its own recipe, with the seed of the
run: a run that is repeated gets the same figure. It leaves no file.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch

from vitrail.config import flatten
from vitrail.data.sources.open_data import Source, subset
from vitrail.keyed_random import permutation
from vitrail.models.cost import macs
from vitrail.models.names import resolve_model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.spelling import count
from vitrail.system import interrupts
from vitrail.training.optim.optimizer import set_lr
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.optim.schedule import lr_on
from vitrail.training.plan.plan_run import Plan, plan_run
from vitrail.training.ranks.share import share_of
from vitrail.training.ranks.spread import Alone
from vitrail.training.state import start_state
from vitrail.training.step import training_loader, update
from vitrail.training.tasks.registry import task_of

MODEL, NAME = "resnet_s", "small residual network"
MOST_MACS = 5e12  # in training: about three minutes of a core
MOST_JUDGED = 2_000  # images
LEAST_STEPS = 100  # fewer teach too little to be beside anything
KEPT = ["seed", "device", "threads", "precision"]
KEPT += [f"data.{name}" for name in ("image_size", "channels", "workers", "max_pixels")]


def is_wanted(plan: Plan) -> bool:
    """Whether a run is told what a residual network reaches: classifiers from scratch, of another
    family, of one label an image.
    """
    config = plan.config
    return (
        config.residual_baseline
        and config.objective == "classify"
        and not config.start.model
        and not plan.splits.multi_label
        and not isinstance(plan.model, ResNetConfig)
    )


def small_residual(plan: Plan, steps: int, judged: Source) -> tuple[str, float] | None:
    """Top-1 of the network on `judged`, or on a sample of it, with a name for people.

    steps: that the run took. None where they are worth less than LEAST_STEPS of the network.
    """
    config = plan.config
    cost = macs(
        resolve_model(
            MODEL,
            num_classes=len(plan.splits.classes),
            image_size=plan.model.image_size,
            channels=plan.model.channels,
        )
    )
    spent = min(steps * int(config.batch_size) * macs(plan.model), MOST_MACS)
    values = flatten(config)
    settings = {key: values[key] for key in KEPT}
    settings |= {"data.path": config.data.path, "model.name": MODEL}
    own = plan_run(
        [("baseline", {**settings, "examples": max(1, round(spent / cost))})], splits=plan.splits
    )
    total = own.total_steps or 1
    if total < LEAST_STEPS:
        return None
    network = _trained(own, total)
    few = subset(judged, np.sort(permutation(config.seed, 0, len(judged))[:MOST_JUDGED]))
    found = task_of(own, torch.device(str(own.config.device))).judge(network, few)
    seen = total * int(own.config.batch_size)
    on = f", on {count(len(few), 'image')}" if len(few) < len(judged) else ""
    return f"{NAME} ({count(seen, 'image')} seen{on})", float(found.metrics["top1"])


def _trained(plan: Plan, total: int) -> torch.nn.Module:
    """The network after so many steps."""
    config, device = plan.config, torch.device(str(plan.config.device))
    loader, mine = training_loader(plan), share_of(config)
    schedule = Schedule.of(total)
    state = start_state(config, plan.model, schedule, device)
    task = task_of(plan, device)
    state.model.train()
    with closing(loader.batches(0, total)) as batches:
        for step, batch in enumerate(batches, 1):
            interrupts.check()
            rate = lr_on(schedule, step, config.optim.lr, config.schedule)
            set_lr(state.optimizer, rate)
            parts = mine.parts(task, batch, step, config.seed)
            update(Alone(state.model), state, parts, task.loss, config)
    return state.model

"""One candidate trained for a budget, and judged on validation images.

A budget is seconds of one core. The pace of a candidate is measured in processor time, which other
programs on the machine hardly change, and gives the number of images that it may see.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.device import keep_freed_memory, set_threads
from vitrail.models.cost import macs
from vitrail.training.loop import train
from vitrail.training.optim.schedule import StepSchedule as Schedule
from vitrail.training.plan.plan_run import Plan, plan_run
from vitrail.training.state import start_state
from vitrail.training.step import trial as steps_of
from vitrail.training.tasks.registry import task_of

WARMUP, TIMED = 3, 12  # steps


class Outcome(NamedTuple):
    """top1, loss: on validation images. pace: images a second of one core in training."""

    top1: float
    loss: float
    pace: float
    examples: int
    macs: int


def run(settings: dict[str, Any], secs: float, seed: int) -> Outcome:
    """Train one candidate. settings: dotted, with data.path; no test images are read."""
    fixed = {"threads": 1, "seed": seed, "eval_every_epochs": 1e6, "save_every_secs": 1e6}
    layer = {"examples": 1, **settings, **fixed}
    plan = plan_run([("search", layer)])
    assert plan.splits.test is None, "a search looks at no test images"
    images_per_s = pace(plan)
    examples = max(int(plan.config.batch_size), round(secs * images_per_s))
    scratch = Path(tempfile.mkdtemp())
    try:
        done = train(
            [("search", layer | {"examples": examples})], runs_dir=scratch, with_report=False
        )
    finally:
        shutil.rmtree(scratch)
    assert done.best is not None
    top1, loss = float(done.best["val/top1"]), float(done.best["val/loss"])
    return Outcome(top1, loss, images_per_s, examples, macs(plan.model))


def pace(plan: Plan) -> float:
    """Images a second of one core."""
    config, device = plan.config, torch.device("cpu")
    keep_freed_memory()
    set_threads(1)
    loader = make_loader(
        plan.splits.train,
        plan.preprocess,
        config.augment,
        Batching(
            batch_size=int(config.batch_size), seed=config.seed, max_pixels=config.data.max_pixels
        ),
    )
    state = start_state(config, plan.model, Schedule.of(1), device)
    with closing(steps_of(state, loader, task_of(plan, device), config, WARMUP + TIMED)) as steps:
        for _ in range(WARMUP):
            next(steps)
        started = time.process_time()
        taken = sum(1 for _ in steps)
    return taken * int(config.batch_size) / (time.process_time() - started)

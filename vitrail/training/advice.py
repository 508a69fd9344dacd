"""What a finished run should tell its owner without being asked, each with a way on.

Nothing is said without evidence: not after a few steps, and not of a difference that the interval
of the accuracy does not exclude.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vitrail.data.sources.source import class_counts
from vitrail.training.plan.plan_run import Plan

FEW_PICTURES = 5
LEAST_STEPS = 20  # fewer say nothing about settings
LONG_WAIT = 0.3  # share of the time spent waiting for images


@dataclass(frozen=True)
class Evidence:
    """What a run came to. steps: done; num_outputs: answers that the task tells apart; top1: on the
    judged split, or None; interval: of top1, or (); baselines: top-1 of what does not learn;
    train_loss: mean of the last record, nats; waited: share of the time spent waiting for images.
    """

    steps: int
    num_outputs: int
    top1: float | None
    interval: tuple[float, ...]
    baselines: Mapping[str, float]
    train_loss: float
    waited: float


def advice(plan: Plan, found: Evidence) -> Iterator[str]:
    """Sentences about a run."""
    if found.steps >= LEAST_STEPS:
        yield from _of_training(plan, found)
    if plan.config.objective == "masked_patches":
        yield "model/ is the encoder: the prediction head and the mask embedding are left out"
        return
    counts = class_counts(plan.splits.train)
    few = [name for name, n in zip(plan.splits.classes, counts, strict=True) if n < FEW_PICTURES]
    if few:
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        yield f"classes with fewer than {FEW_PICTURES} training images: {shown}"


def _of_training(plan: Plan, found: Evidence) -> Iterator[str]:
    data = plan.config.data.path
    if found.top1 is not None and found.baselines:
        name, best = max(found.baselines.items(), key=lambda item: item[1])
        if (found.interval[1] if found.interval else found.top1) < best:
            yield (
                f"accuracy {found.top1:.3f} is below the baseline {name} ({best:.3f}): train "
                f"longer, or look at the images: vitrail data show {data}"
            )
    guess = math.log(found.num_outputs)  # the loss of equal probabilities
    if plan.config.loss.name == "softmax" and found.train_loss > 0.98 * guess:
        yield (
            f"the training loss stayed at chance level (ln {found.num_outputs} = {guess:.3f}): "
            f"check labels and learning rate: vitrail lr-find {data}"
        )
    if found.waited > LONG_WAIT:
        ways = (
            "more --workers or smaller files"
            if plan.splits.kind == "files"
            else "images are in memory, so what takes the time is augmentation (--augment none)"
        )
        yield f"data loading limits the speed ({100 * found.waited:.1f} % of the time): {ways}"

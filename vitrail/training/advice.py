"""What a finished run should tell its owner without being asked, each with a way on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from vitrail.training.plan import Plan
from vitrail.training.run_files import class_counts

FEW_PICTURES = 5
LONG_WAIT = 0.3  # share of the time spent waiting for pictures


def advice(
    plan: Plan,
    num_outputs: int,
    top1: float | None,
    baselines: Mapping[str, float],
    train_loss: float,
    waited: float,
) -> Iterator[str]:
    """Sentences about a run.

    num_outputs: answers that the task tells apart. top1: on the judged split, or None. train_loss:
    mean of the last record, nats. waited: share of the time spent waiting for pictures.
    """
    if top1 is not None and baselines:
        name, best = max(baselines.items(), key=lambda item: item[1])
        if top1 < best:
            yield (
                f"top-1 {top1:.3f} is below the baseline {name} ({best:.3f}): train longer, or "
                "look at the pictures (vitrail data show DATA)"
            )
    guess = math.log(num_outputs)  # the loss of equal probabilities
    if plan.config.loss.name == "softmax" and train_loss > 0.98 * guess:
        yield (
            f"train/loss stayed near ln({num_outputs}) = "
            f"{guess:.3f}: the learning rate is too high, or the "
            "labels are shuffled (vitrail lr-find DATA)"
        )
    if waited > LONG_WAIT:
        yield (
            f"{waited:.0%} of the time went into waiting for pictures: raise --workers, or store "
            "smaller pictures"
        )
    if plan.config.objective == "masked_patches":
        yield "model/ is the encoder: the prediction head and the mask embedding are left out"
        return
    counts = class_counts(plan.splits.train)
    few = [name for name, n in zip(plan.splits.classes, counts, strict=True) if n < FEW_PICTURES]
    if few:
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        yield f"classes with fewer than {FEW_PICTURES} training pictures: {shown}"

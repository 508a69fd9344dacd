"""The tasks by the name of their objective."""

from __future__ import annotations

import torch

from vitrail.training.plan.plan_run import Plan
from vitrail.training.ranks.ranks import ALONE, Ranks
from vitrail.training.tasks.classify import classify
from vitrail.training.tasks.predict_patches import PredictPatches
from vitrail.training.tasks.task import Task


def task_of(plan: Plan, device: torch.device, ranks: Ranks = ALONE) -> Task:
    """What a run of `plan` learns; `ranks` judge together. Raises what opening a teacher raises."""
    if plan.config.objective == "masked_patches":
        return PredictPatches(plan, device, ranks=ranks)
    return classify(plan, device, ranks)

"""A model judged on a held-out split, during and after training.

It sees the same pixels as a served model does.
"""

from __future__ import annotations

from torch import nn

from vitrail.data.loader import make_loader
from vitrail.data.sources import Source
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.record import Evaluation
from vitrail.training.plan import Plan

EVAL_BATCH = 128


def judge(model: nn.Module, source: Source, plan: Plan) -> Evaluation:
    """`model` on every picture of `source`, the last partial batch included."""
    config = plan.config
    loader = make_loader(
        source,
        plan.preprocess,
        None,
        batch_size=EVAL_BATCH,
        seed=config.seed,
        workers=int(config.data.workers),
        max_pixels=config.data.max_pixels,
    )
    return evaluate(
        model,
        loader.eval_batches(EVAL_BATCH),
        plan.preprocess,
        plan.splits.classes,
        device=config.device,
        precision=config.precision,
        source_id=source.source_id,
    )

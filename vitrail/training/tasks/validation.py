"""A model judged on a held-out split, during and after training.

It sees the same pixels as a served model does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from torch import nn

from vitrail.data.loading.batch import Batch
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import make_loader
from vitrail.data.sources.open_data import Source
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.record import Evaluation
from vitrail.runtime.torch_runtime import TorchRuntime
from vitrail.training.plan.plan_run import Plan
from vitrail.training.ranks.judging import batches_of
from vitrail.training.ranks.ranks import ALONE, Ranks

EVAL_BATCH = 128


def never() -> bool:
    """There is no end of the time."""
    return False


def until(batches: Generator[Batch, None, None], is_over: Callable[[], bool]) -> Iterator[Batch]:
    """The batches, at least one of them, until the time is over."""
    with closing(batches):
        for batch in batches:
            yield batch
            if is_over():
                return


def judge(
    model: nn.Module,
    source: Source,
    plan: Plan,
    is_over: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """`model` on every image of `source`, the last partial batch included, or on the first ones
    until the time is over; of several processes on this one's share.
    """
    config = plan.config
    loader = make_loader(
        source,
        plan.preprocess,
        None,
        Batching(
            batch_size=EVAL_BATCH,
            seed=config.seed,
            workers=int(config.data.workers),
            max_pixels=config.data.max_pixels,
            device=config.device,
        ),
    )
    runtime = TorchRuntime(model, plan.preprocess.input_size, config.precision)
    return evaluate(
        runtime.logits,
        until(loader.eval_batches(EVAL_BATCH, batches_of(source, EVAL_BATCH, ranks)), is_over),
        plan.preprocess,
        plan.splits.classes,
        source_id=source.source_id,
    )

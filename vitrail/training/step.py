"""One step: the parts of a batch give a loss, and the weights are updated once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial

import torch
from torch import Tensor, nn

from vitrail.config import TrainConfig
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.lanes import Lanes
from vitrail.data.loading.loader import ArrayLoader, FileLoader, make_loader
from vitrail.data.sources.shard_source import ShardSource
from vitrail.models.vit.flexible import drawn_patch
from vitrail.models.vit.model import ViT
from vitrail.training.optim.ema import Ema
from vitrail.training.optim.optimizer import clip_gradients, set_lr
from vitrail.training.plan.plan_run import Plan
from vitrail.training.ranks.share import Part, Share, share_of
from vitrail.training.ranks.spread import Alone, Spread
from vitrail.training.state import TrainState
from vitrail.training.tasks.precision import autocast
from vitrail.training.tasks.task import Forward, Parts, Task

Loss = Callable[[Forward, Parts], Tensor]


def training_loader(
    plan: Plan, seed: int | None = None, share: Share | None = None
) -> ArrayLoader | FileLoader:
    """The training batches of a run, or the rows of a share of them, on its device, where images in
    memory are augmented too; on the CPU for MPS, which has no float64 to resample with.
    """
    config = plan.config
    share = share or share_of(config)
    return make_loader(
        plan.splits.train,
        plan.preprocess,
        config.augment,
        Batching(
            batch_size=int(config.batch_size),
            seed=config.seed if seed is None else seed,
            workers=int(config.data.workers),
            on_bad_file=config.data.on_bad_file,
            max_pixels=config.data.max_pixels,
            device="cpu" if config.device == "mps" else config.device,
            slots=share.slots,
            lanes=lanes_of(plan),
        ),
    )


def lanes_of(plan: Plan) -> Lanes | None:
    """The order of a run's batches, where it goes from shard to shard."""
    train, data = plan.splits.train, plan.config.data
    if data.order == "full" or not isinstance(train, ShardSource):
        return None
    return Lanes(*train.by_shard(), data.lanes, data.window)


def update(
    spread: Spread, state: TrainState, parts: Iterable[Part], loss: Loss, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """One update; the loss of these parts and the gradients' norm before clipping, scalars on the
    device.

    The mean gradients of the parts of the batch are averaged, which is the gradient of the whole.
    On a CPU nothing is updated where loss or norm is not finite.
    """
    parts = list(parts)
    device = parts[0].inputs[0].device
    set_patch(state.model, config.seed, state.step + 1)

    def in_precision(*inputs: Tensor) -> Tensor:
        with autocast(config, device):
            return spread.forward(*inputs)

    def loss_of(part: Part) -> Tensor:
        torch.manual_seed(part.key)
        return loss(in_precision, part.inputs)

    state.optimizer.zero_grad()
    total = spread.gradients([partial(loss_of, part) for part in parts])
    norm = clip_gradients(state.model.parameters(), config.optim.clip)
    if device.type != "cpu" or bool(torch.isfinite(total + norm)):
        state.optimizer.step()
        if isinstance(state.ema, Ema):
            state.ema.decay = min(config.ema, (state.step + 1) / (state.step + 10))
        if state.ema:
            state.ema.update(state.model)
    return total, norm


def set_patch(model: nn.Module, seed: int, step: int) -> None:
    """Bring a model of several patch sizes to that of a step: the same one in all its parts."""
    if isinstance(model, ViT) and model.config.patch_sizes:
        model.patch = drawn_patch(model.config, seed, step)


def trial(
    state: TrainState,
    loader: ArrayLoader | FileLoader,
    task: Task,
    config: TrainConfig,
    num_steps: int,
    share: Share | None = None,
) -> Generator[None, None, None]:
    """Train the throwaway `state` on the first batches: a step each time the next is asked for."""
    share = share or share_of(config)
    state.model.train()
    set_lr(state.optimizer, 1e-6)
    with closing(loader.batches(0, num_steps)) as batches:
        for step, batch in enumerate(batches, 1):
            parts = share.parts(task, batch, step, config.seed)
            update(Alone(state.model), state, parts, task.loss, config)
            state.step = step
            yield

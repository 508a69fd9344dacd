"""One step: a batch becomes inputs and targets, and the weights are updated once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import torch
from torch import Tensor

from vitrail.config import TrainConfig
from vitrail.data.loader import ArrayLoader, Batch, FileLoader, normalise
from vitrail.data.mix import mix, mix_numbers
from vitrail.training import objectives
from vitrail.training.optim import clip_gradients, set_lr
from vitrail.training.plan import Plan
from vitrail.training.state import TrainState


def inputs(batch: Batch, plan: Plan, device: torch.device, step: int) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) float32 normalised and mixed, targets (B, K) float32."""
    images = normalise(batch.images.to(device, non_blocking=True), plan.preprocess)
    labels = batch.labels.to(device, non_blocking=True)
    targets = objectives.one_hot(labels, len(plan.splits.classes))
    augment = plan.config.augment
    if augment.mixup or augment.cutmix:
        images, targets = mix(images, targets, mix_numbers(plan.config.seed, step), augment)
    return images, targets


def update(
    forward: Callable[[Tensor], Tensor],
    state: TrainState,
    images: Tensor,
    targets: Tensor,
    config: TrainConfig,
    class_weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One update; the loss and the gradients' norm before clipping, scalars on the device.

    The batch goes through in `accumulate` equal parts whose mean gradients are averaged, which is
    the gradient of the whole batch. On a CPU nothing is updated where loss or norm is not finite.
    """
    parts = config.optim.accumulate
    autocast = torch.autocast(
        images.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
    )
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=images.device)
    for part, labels in zip(images.chunk(parts), targets.chunk(parts), strict=True):
        with autocast:
            logits = forward(part)
        loss = _loss(logits, labels, config, class_weights) / parts
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    norm = clip_gradients(state.model.parameters(), config.optim.clip)
    if images.device.type != "cpu" or bool(torch.isfinite(total + norm)):
        state.optimizer.step()
        if state.ema:
            state.ema.decay = min(config.ema, (state.step + 1) / (state.step + 10))
            state.ema.update(state.model)
    return total, norm


def trial(
    plan: Plan,
    state: TrainState,
    loader: ArrayLoader | FileLoader,
    device: torch.device,
    class_weights: Tensor | None,
) -> Callable[[int], None]:
    """A function that trains the throwaway `state` on the batch of a step (from 0)."""
    state.model.train()
    set_lr(state.optimizer, 1e-6)

    def one_step(step: int) -> None:
        with closing(loader.batches(step, step + 1)) as batches:
            images, targets = inputs(next(iter(batches)), plan, device, step + 1)
        update(state.model, state, images, targets, plan.config, class_weights)

    return one_step


def _loss(
    logits: Tensor, targets: Tensor, config: TrainConfig, class_weights: Tensor | None
) -> Tensor:
    """The loss of one head (B, K), or the mean over two (B, 2, K) with a distillation token."""
    if logits.ndim == 2:
        return objectives.loss(logits, targets, config.loss, class_weights)
    heads = [
        objectives.loss(head, targets, config.loss, class_weights) for head in logits.unbind(1)
    ]
    return torch.stack(heads).mean()

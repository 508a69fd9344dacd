"""The task of classifying images, from labels and maybe a teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitrail.data.augment.mix import mix, mix_numbers
from vitrail.data.loading.loader import Batch, normalise
from vitrail.data.sources.open_data import Source
from vitrail.data.sources.source import class_counts
from vitrail.evaluation.baselines import baselines
from vitrail.training.plan.plan_run import Plan
from vitrail.training.ranks.judging import put_together
from vitrail.training.ranks.ranks import ALONE, Ranks
from vitrail.training.tasks import objectives
from vitrail.training.tasks.distill import Teacher, open_teacher, teacher_loss
from vitrail.training.tasks.precision import autocast
from vitrail.training.tasks.task import FIGURES, EvalResult, Forward, Parts
from vitrail.training.tasks.validation import judge, never


@dataclass(frozen=True)
class Classify:
    """class_weights: float32 (K,) or None. teacher: whose answers count beside the labels."""

    plan: Plan
    device: torch.device
    class_weights: Tensor | None
    teacher: Teacher | None
    splits: tuple[str, ...] = ("val", "test")
    ranks: Ranks = ALONE

    @property
    def num_outputs(self) -> int:
        """Classes."""
        return len(self.plan.splits.classes)

    def parts(self, batch: Batch, step: int) -> Parts:
        """Images (B, C, H, W) float32 normalised and mixed, targets (B, K) float32, and the
        teacher's logits (B, K); of a piece of a step without the row before it.
        """
        plan, augment = self.plan, self.plan.config.augment
        images = normalise(batch.images.to(self.device, non_blocking=True), plan.preprocess)
        labels = batch.labels.to(self.device, non_blocking=True)
        targets = objectives.one_hot(labels, self.num_outputs)
        if augment.mixup or augment.cutmix:
            images, targets = mix(images, targets, mix_numbers(plan.config.seed, step), augment)
        images, targets = images[batch.own], targets[batch.own]
        if self.teacher is None:
            return images, targets
        with autocast(plan.config, self.device):
            return images, targets, self.teacher.logits(images, plan.preprocess)

    def loss(self, forward: Forward, parts: Parts) -> Tensor:
        """Of the labels, or labels and teacher: (1 - alpha) and alpha (DeiT)."""
        logits, targets = forward(parts[0]), parts[1]
        if self.teacher is None:
            heads = [logits] if logits.ndim == 2 else list(logits.unbind(1))
            return torch.stack([self._of_labels(head, targets) for head in heads]).mean()
        of_labels, of_teacher = (logits, logits) if logits.ndim == 2 else logits.unbind(1)
        distill = self.plan.config.distill
        learnt = teacher_loss(of_teacher, parts[2], distill)
        return (1 - distill.alpha) * self._of_labels(of_labels, targets) + distill.alpha * learnt

    def _of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        return objectives.loss(logits, targets, self.plan.config.loss, self.class_weights)

    def judge(
        self, network: nn.Module, source: Source, is_over: Callable[[], bool] = never
    ) -> EvalResult:
        """Accuracy, calibration and every class; on the first of several processes all of it, on
        the others the figures.
        """
        mine = judge(network, source, self.plan, is_over, self.ranks)
        result = put_together(mine, self.ranks)
        if result is None:
            return EvalResult(**self.ranks.tell())
        names = ("top1", "top5", "nll", "ece", "brier", "f1_macro")
        metrics = {"loss": result.nll, **{name: getattr(result, name) for name in names}}
        found = EvalResult(result.n, result.images_per_s, metrics, result.to_json(), result)
        self.ranks.tell({name: getattr(found, name) for name in FIGURES})
        return found

    def baselines(self, source: Source, max_secs: float, slowness: float = 1.0) -> dict[str, float]:
        """The most frequent class and nearest neighbours."""
        train = self.plan.splits.train
        return baselines(train, source, max_secs=max_secs, slowness=slowness)


def classify(plan: Plan, device: torch.device, ranks: Ranks = ALONE) -> Classify:
    """The task of `plan`. Raises what `open_teacher` raises."""
    weights = None
    if plan.config.loss.class_weights == "balanced":
        weights = objectives.balanced_weights(class_counts(plan.splits.train)).to(device)
    distill = plan.config.distill
    teacher = open_teacher(distill, plan.splits.classes, device) if distill.teacher else None
    return Classify(plan, device, weights, teacher, ranks=ranks)

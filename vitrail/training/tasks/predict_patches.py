"""The task of masked patch prediction (`masked_patches.py`): no label is looked at.

Judged are the loss and the top-1 of the prediction, on validation images corrupted in the same
way at every evaluation; never on the test split, which belongs to the classifier that comes after.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.data.loading.batching import Batching
from vitrail.data.loading.loader import Batch, make_loader, normalise
from vitrail.data.sources.open_data import Source, subset
from vitrail.data.sources.sample import sample
from vitrail.device import sent
from vitrail.training.plan.compatibility import check_encoder
from vitrail.training.plan.plan_run import Plan
from vitrail.training.ranks.judging import batches_of
from vitrail.training.ranks.ranks import ALONE, Ranks
from vitrail.training.tasks.masked_patches import (
    LEVELS,
    colour_targets,
    corruption_of_images,
    corruption_of_step,
    patch_loss,
)
from vitrail.training.tasks.precision import autocast
from vitrail.training.tasks.task import EvalResult, Forward, Parts
from vitrail.training.tasks.validation import EVAL_BATCH, never, until

SAMPLE = 2000  # images that the baseline looks at


@dataclass(frozen=True)
class PredictPatches:
    """The paper's first variant: one 3-bit mean colour a patch."""

    plan: Plan
    device: torch.device
    splits: tuple[str, ...] = ("val",)
    ranks: Ranks = ALONE

    @property
    def num_outputs(self) -> int:
        """Colours."""
        return int(LEVELS**self.plan.model.channels)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row."""
        return check_encoder(self.plan.model).grid

    def parts(self, batch: Batch, step: int) -> Parts:
        """Images (B, C, H, W) float32 normalised, then int64 (B, M) each: places, roles, partners,
        targets.
        """
        h, w = self.grid
        count, seed = len(batch.images), self.plan.config.seed
        corruption = corruption_of_step(seed, step, count, h * w, first=batch.first)
        return self._with_targets(batch, corruption)

    def _with_targets(self, batch: Batch, corruption: tuple[Tensor, ...]) -> Parts:
        pixels = batch.images.to(self.device, non_blocking=True)
        places, roles, partners = (sent(part, self.device) for part in corruption)
        bytes_ = pixels if pixels.dtype == torch.uint8 else pixels.round().to(torch.uint8)
        targets = colour_targets(bytes_, self.grid).gather(1, places)
        return normalise(pixels, self.plan.preprocess), places, roles, partners, targets

    def loss(self, forward: Forward, parts: Parts) -> Tensor:
        """Cross-entropy over every corrupted patch, those that stayed included."""
        return patch_loss(forward(*parts[:4]), parts[4])

    def judge(
        self, network: nn.Module, source: Source, is_over: Callable[[], bool] = never
    ) -> EvalResult:
        """Loss in nats and top-1 of the prediction."""
        started = time.perf_counter()
        figures: list[tuple[Tensor, Tensor, int, int]] = []  # of each batch, see `_sums_of`
        was_training = network.training
        network.eval()
        with torch.inference_mode(), autocast(self.plan.config, self.device):
            for batch in until(self._eval_batches(source, self.ranks), is_over):
                h, w = self.grid
                corruption = corruption_of_images(self.plan.config.seed, batch.indices, h * w)
                parts = self._with_targets(batch, corruption)
                logits, targets = network(*parts[:4]), parts[4]
                right = (logits.argmax(dim=2) == targets).sum()
                figures.append((patch_loss(logits, targets), right, *targets.shape))
        network.train(was_training)
        total, correct, asked, n = self._added(_sums_of(figures))
        metrics = {"loss": total / asked, "top1": correct / asked}
        record = {"n": n, "patches": asked, "nll": metrics["loss"], "top1": metrics["top1"]}
        return EvalResult(n, n / max(time.perf_counter() - started, 1e-9), metrics, record)

    def _added(self, sums: list[tuple[float, int, int, int]]) -> tuple[float, int, int, int]:
        """The sums of all batches, in their order, whichever process they are of."""
        found = self.ranks.collect(json.dumps(sums).encode())
        every = [one for content in found for one in json.loads(content)]
        total, correct, asked, n = self.ranks.tell(
            [sum(column) for column in zip(*every, strict=True)]
        )
        return total, correct, asked, n

    def baselines(self, source: Source, max_secs: float, slowness: float = 1.0) -> dict[str, float]:
        """How often the most frequent colour of training images is right."""
        counts = [self._colours(part) for part in (self.plan.splits.train, source)]
        return {"most frequent colour": float(counts[1][counts[0].argmax()] / counts[1].sum())}

    def _colours(self, source: Source) -> NDArray[np.int64]:
        """How often each colour occurs in a sample of `source`, (8^C,)."""
        places = np.sort(sample(source, SAMPLE, "colours"))
        counts = np.zeros(self.num_outputs, dtype=np.int64)
        for batch in self._eval_batches(subset(source, places)):
            images = batch.images.round().to(torch.uint8).cpu()
            found = colour_targets(images, self.grid).flatten().numpy()
            counts += np.bincount(found, minlength=self.num_outputs)
        return counts

    def _eval_batches(self, source: Source, ranks: Ranks = ALONE) -> Generator[Batch, None, None]:
        config = self.plan.config
        loader = make_loader(
            source,
            self.plan.preprocess,
            None,
            Batching(
                batch_size=EVAL_BATCH,
                seed=config.seed,
                workers=int(config.data.workers),
                max_pixels=config.data.max_pixels,
            ),
        )
        return loader.eval_batches(EVAL_BATCH, batches_of(source, EVAL_BATCH, ranks))


def _sums_of(figures: list[tuple[Tensor, Tensor, int, int]]) -> list[tuple[float, int, int, int]]:
    """Of each batch: loss summed, right, asked, images. In: mean loss, right, images, corrupted
    patches of each; they are read at the end, so that a GPU is not waited for before.
    """
    if not figures:
        return []
    losses = torch.stack([loss for loss, *_ in figures]).tolist()
    rights = torch.stack([right for _, right, *_ in figures]).tolist()
    return [
        (loss * (images * count), right, images * count, images)
        for loss, right, (*_, images, count) in zip(losses, rights, figures, strict=True)
    ]

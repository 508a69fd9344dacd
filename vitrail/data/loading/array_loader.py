"""Batches of small images held in memory: gathered and augmented all at once, on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.batch_augment import augment_batch, to_channels
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.images.rgb import Pixels
from vitrail.data.loading.batch import Batch
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.order import Indices, batch_indices
from vitrail.data.sources.many_labels import targets
from vitrail.device import sent
from vitrail.system import interrupts

if TYPE_CHECKING:
    from vitrail.data.sources.source import Source

# What is augmented at once, at most, unless a batch is more: 128 images of 32 px alone take 1.6 x
# as long as among 1,024.
GROUP_IMAGES = 1024
GROUP_BYTES = 2**22


class ArrayLoader:
    """Batches of a source of arrays; `augment` None trains on evaluation images."""

    def __init__(
        self,
        source: Source,
        preprocess: Preprocess,
        augment: AugmentConfig | None,
        batching: Batching,
    ) -> None:
        assert source.images is not None
        images = source.images if source.images.flags.writeable else source.images.copy()
        self._stored = images  # (n, H, W, C), on the host
        self._images = torch.from_numpy(images).to(batching.device)  # the same; shared on a CPU
        self._labels = source.labels
        self._preprocess = preprocess
        self._augment = augment
        self._batch_size = batching.batch_size
        image_bytes = preprocess.channels * preprocess.height * preprocess.width
        most = min(GROUP_IMAGES, GROUP_BYTES // image_bytes)
        self._slots = batching.slots
        made = self._slots.made if self._slots else self._batch_size
        self._grouped = max(1, most // made)  # steps
        self._seed = batching.seed
        self.data_wait_secs = 0.0

    def batches(self, start_step: int, stop_step: int) -> Generator[Batch, None, None]:
        """The training batches of steps `start_step` .. `stop_step` - 1, whatever came before.

        Small batches are made several at a time. Groups begin at multiples of their size: what a
        step holds, to the last bit, is a function of the step wherever a run resumes.
        """
        group: list[Batch] = []
        for step in range(start_step, stop_step):
            began = time.perf_counter()
            if not group:
                group = self._training(step // self._grouped)[step % self._grouped :]
            batch = group.pop(0)
            self.data_wait_secs += time.perf_counter() - began
            yield batch

    def eval_batches(
        self, batch_size: int, numbers: range | None = None
    ) -> Generator[Batch, None, None]:
        """Every image once, in order, with the evaluation preprocessing; the last batch may be
        smaller. numbers: of the batches that are wanted; all without it.
        """
        num = len(self._images)
        for number in numbers if numbers is not None else range(-(-num // batch_size)):
            first = number * batch_size
            interrupts.check(interrupts.EVALUATION_SECS)
            began = time.perf_counter()
            indices = np.arange(first, min(first + batch_size, num), dtype=np.int64)
            images = self._evaluated(indices, self._preprocess.values)
            batch = self._batch(images, indices)
            self.data_wait_secs += time.perf_counter() - began
            yield batch

    def _training(self, number: int) -> list[Batch]:
        """The batches of group `number`: of steps number * grouped and on."""
        repeats = self._augment.repeats if self._augment else 1
        size = (self._batch_size * self._grouped, len(self._images), repeats)
        indices, epochs, repeat = batch_indices(self._seed, number, *size)
        steps = np.arange(self._grouped)[:, None] * self._batch_size  # (steps, 1)
        whole = [np.arange(self._batch_size)]
        images, pieces = [], self._slots.rows() if self._slots else whole
        for rows in pieces:
            one = (steps + rows).ravel()
            made = self._augmented(indices[one], epochs[one], repeat[one])
            images.append(made.reshape(self._grouped, len(rows), *made.shape[1:]))
        made = images[0] if len(images) == 1 else torch.cat(images, 1)  # (steps, rows, C, H, W)
        places = steps + np.concatenate(pieces)  # (steps, rows)
        return [self._batch(*one) for one in zip(made, indices[places], strict=True)]

    def _augmented(self, indices: Indices, epochs: Indices, repeat: Indices) -> torch.Tensor:
        """Training views of the images `indices` (n,), each drawn by its epoch and repeat."""
        augment = self._augment
        if augment is None or augment.crop == "none":
            images = self._evaluated(indices, self._preprocess.pixels)
        else:
            images = self._gather(indices)
        if augment is not None:
            u = random_slots.draw(self._seed, epochs, indices, repeat, random_slots.needed(augment))
            images = augment_batch(
                to_channels(images, self._preprocess.channels),
                u,
                augment,
                (self._preprocess.height, self._preprocess.width),
                interpolation=self._preprocess.crop_interpolation,
                keep_aspect=isinstance(self._preprocess.resize, int),
            )
        return images

    def _gather(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The images of `indices` as they are stored, (B, C, H, W), a copy."""
        rows = sent(torch.from_numpy(indices), self._images.device)
        return self._images[rows].permute(0, 3, 1, 2).contiguous()

    def _evaluated(self, indices: Indices, one: Callable[[Pixels], NDArray[Any]]) -> torch.Tensor:
        """The images of `indices` after the evaluation preprocessing; `one` does it for an image,
        on the host, where they are resized.
        """
        preprocess, device = self._preprocess, self._images.device
        have, want = self._stored.shape[1:3], (preprocess.height, preprocess.width)
        if preprocess.is_variable:
            rows = np.stack([preprocess.of_pixels(self._stored[index]) for index in indices])
            return sent(torch.from_numpy(rows), device)  # (B, L, F)
        if have == want == preprocess.resized(*have):
            return to_channels(self._gather(indices), preprocess.channels)
        out = np.stack([one(self._stored[index]) for index in indices])  # (B, h, w, C)
        return sent(torch.from_numpy(out).permute(0, 3, 1, 2).contiguous(), device)

    def _batch(self, images: torch.Tensor, indices: NDArray[np.int64]) -> Batch:
        return Batch(
            images, torch.from_numpy(targets(self._labels, indices)), torch.from_numpy(indices)
        )

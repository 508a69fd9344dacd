"""Batches of image files: read, decoded and augmented in worker processes, 8 bits a value until
the device.

What a step holds is a function of the step alone (`file_batches.py`), so the number of workers,
prefetching and resuming change nothing (reliability R5). Without workers the images of a batch
are shared out among threads of this process: the decoders and Pillow's resize let go of Python's
lock.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from vitrail.config import AugmentConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch
from vitrail.data.loading.batching import Batching
from vitrail.data.loading.crew import PREFETCH
from vitrail.data.loading.file_batches import EvalBatches, Fault, TrainBatches, in_threads
from vitrail.data.loading.kept_pixels import KeptPixels, room_for_pixels
from vitrail.data.loading.loader_workers import in_workers
from vitrail.data.loading.numpy_batches import WAY_OUT
from vitrail.data.loading.slots import count_rows
from vitrail.device import processes_here, sent
from vitrail.errors import DataError, EnvironmentFault
from vitrail.spelling import count
from vitrail.system import interrupts
from vitrail.system.interrupts import Interrupted

if TYPE_CHECKING:
    from vitrail.data.sources.source import Readable

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - torch puts shared tensors there


class FileLoader:
    """Batches of a source of files; `augment` None trains on evaluation images."""

    def __init__(
        self,
        source: Readable,
        preprocess: Preprocess,
        augment: AugmentConfig | None,
        batching: Batching,
    ) -> None:
        kept = KeptPixels(len(source), room_for_pixels(batching.workers))
        self._train = TrainBatches(
            source,
            preprocess,
            augment,
            batching.batch_size,
            batching.seed,
            batching.max_pixels,
            batching.slots,
            batching.lanes,
            kept,
        )
        self._workers = batching.workers
        self._on_bad_file = batching.on_bad_file
        self._device = torch.device(batching.device)
        self.data_wait_secs = 0.0

    def batches(self, start_step: int, stop_step: int) -> Generator[Batch, None, None]:
        """The training batches of steps `start_step` .. `stop_step` - 1, whatever came before.

        Workers live as long as the iterator, which ends early after a request to stop. Raises
        DataError VIT-301 naming the image that cannot be used, EnvironmentFault VIT-521 where
        shared memory is too small for the workers, VIT-522 or VIT-527 where they make no progress.
        """
        numbers = range(start_step, stop_step)
        with suppress(Interrupted):
            size = count_rows(self._train.batch_size, self._train.slots)
            yield from self._serve(self._train, numbers, size, 0.0)

    def eval_batches(
        self, batch_size: int, numbers: range | None = None
    ) -> Generator[Batch, None, None]:
        """Every image once, in order, with the evaluation preprocessing; the last batch may be
        smaller. numbers: of the batches that are wanted; all without it. Raises Interrupted some
        seconds after a request to stop.
        """
        train = self._train
        parts = EvalBatches(train.source, train.preprocess, batch_size, train.max_pixels)
        if numbers is None:
            numbers = range(-(-len(train.source) // batch_size))
        size = min(batch_size, len(train.source))
        return self._serve(parts, numbers, size, interrupts.EVALUATION_SECS)

    def _serve(
        self,
        dataset: TrainBatches | EvalBatches,
        numbers: range,
        batch_size: int,
        grace_secs: float,
    ) -> Generator[Batch, None, None]:
        _check_shared_memory(batch_size, dataset, self._workers)
        iterator = (
            in_workers(dataset, numbers, self._workers, batch_size, grace_secs)
            if self._workers
            else in_threads(dataset, numbers, grace_secs)
        )
        try:
            for _ in numbers:
                began = time.perf_counter()
                batch = next(iterator)
                if isinstance(batch, Fault):
                    raise _bad_file(batch, self._on_bad_file)
                images = sent(batch.images, self._device)
                self.data_wait_secs += time.perf_counter() - began
                yield Batch(images, batch.labels, batch.indices)
        finally:
            iterator.close()  # ends workers and threads


def _check_shared_memory(batch_size: int, steps: TrainBatches | EvalBatches, workers: int) -> None:
    """Batches wait in /dev/shm; where it is full a worker is killed (containers: 64 MB)."""
    if workers == 0 or not os.path.isdir(SHARED_MEMORY):
        return
    need = batch_size * steps.block(1).nbytes * (workers * PREFETCH + 1) * processes_here()
    free = shutil.disk_usage(SHARED_MEMORY).free
    if need > free:
        raise EnvironmentFault(
            "VIT-521",
            f"shared memory: {count(workers, 'worker')} with batches of "
            f"{count(batch_size, 'image')} need "
            f"{need / 1e6:.0f} MB in {SHARED_MEMORY}, {free / 1e6:.0f} MB are free.",
            hint="Give the container more (docker run --shm-size 1g), or use fewer workers "
            "(--data.workers 0 needs none) or a smaller --batch-size.",
        )


def _bad_file(fault: Fault, on_bad_file: str) -> DataError:
    hint = (
        "It was readable when the images were checked: it has been changed since."
        if on_bad_file == "skip"
        else WAY_OUT
    )
    return DataError("VIT-301", f"{fault.name}: {fault.reason}", hint=hint)

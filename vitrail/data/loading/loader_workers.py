"""Worker processes that make the batches of a `FileLoader` in blocks of shared memory.

A worker makes a whole batch: it is given a number and writes the pixels into a block (`crew.py`).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch

from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.loading.batch import Batch
from vitrail.data.loading.crew import PREFETCH, Crew
from vitrail.data.loading.file_batches import EvalBatches, Fault, Indices, TrainBatches
from vitrail.data.loading.worker_crashes import TrackedSource
from vitrail.data.loading.worker_process import ROOM_BYTES, Worker, new_place
from vitrail.data.sources.many_labels import targets


@dataclass(frozen=True)
class InBlocks:
    """What workers run: item n is written to block n - first, counted round, and told by its
    indices.
    """

    steps: TrainBatches | EvalBatches
    blocks: torch.Tensor  # (blocks, B, C, h, w), shared
    first: int

    def block(self, number: int) -> torch.Tensor:
        """Where item `number` is written."""
        return self.blocks[(number - self.first) % len(self.blocks)]

    def __call__(self, number: int) -> Indices | Fault:
        """Item `number`."""
        batch = self.steps.item(number, out=self.block(number))
        return batch if isinstance(batch, Fault) else batch.indices.numpy()


def in_workers(
    steps: TrainBatches | EvalBatches,
    numbers: range,
    workers: int,
    batch_size: int,
    grace_secs: float = 0.0,
) -> Generator[Batch | Fault, None, None]:
    """Items `numbers`, made by `workers` processes; closing ends them.

    The blocks of shared memory are used over and over: fresh ones would be faulted in page by page
    on both sides. At most PREFETCH items of each worker are under way while one more is copied out.
    Raises Interrupted `grace_secs` after a request to stop.
    """
    num_workers = min(workers, max(1, len(numbers)))
    blocks = steps.block(num_workers * PREFETCH + 1, batch_size)
    blocks.share_memory_()  # type: ignore[no-untyped-call]
    made = InBlocks(steps, blocks, numbers.start)
    room = ROOM_BYTES * max(1, steps.max_pixels // MAX_PIXELS)

    def start(number: int) -> Worker:
        place = new_place()
        watched = TrackedSource(steps.source, place)
        job = replace(made, steps=replace(steps, source=watched))
        return Worker(job, place, watched, number, room)

    crew = Crew(start, num_workers, grace_secs)
    try:
        for number in numbers:
            item = crew.result(number, numbers)
            if isinstance(item, Fault):
                yield item
            else:
                images = made.block(number)[: len(item)].clone()
                taught = torch.from_numpy(targets(steps.source.labels, item))
                yield Batch(images, taught, torch.from_numpy(item))
    finally:
        crew.close()

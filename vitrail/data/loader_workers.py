"""Worker processes that make the batches of a `FileLoader` in blocks of shared memory.

A worker makes a whole batch: it is given a number and writes the pixels into a block. Workers run
one thread, ignore Ctrl-C (the parent ends them) and die with the parent; one that dies is replaced
(`crashes.py`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from vitrail.child_process import safe_children
from vitrail.data.batch import Batch
from vitrail.data.crashes import Deaths, Watched, is_death
from vitrail.data.file_batches import EvalParts, Fault, Indices, TrainSteps
from vitrail.device import keep_freed_memory

PREFETCH = 2  # batches a worker keeps ready
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class InBlocks(Dataset["Indices | Fault"]):
    """What workers run: item n is written to block n - first, counted round, and told by its
    indices.
    """

    steps: TrainSteps | EvalParts
    blocks: torch.Tensor  # (blocks, B, C, h, w), shared
    first: int

    def block(self, number: int) -> torch.Tensor:
        return self.blocks[(number - self.first) % len(self.blocks)]

    def __getitem__(self, number: int) -> Indices | Fault:
        batch = self.steps.item(number, out=self.block(number))
        if isinstance(self.steps.source, Watched):
            self.steps.source.leave()
        return batch if isinstance(batch, Fault) else batch.indices.numpy()


def in_workers(
    steps: TrainSteps | EvalParts, numbers: range, workers: int, batch_size: int
) -> Generator[Batch | Fault, None, None]:
    """Items `numbers`, made by `workers` processes; closing ends them.

    The blocks of shared memory are used over and over: fresh ones would be faulted in page by page
    on both sides. At most PREFETCH items of each worker are under way while one more is copied out.
    """
    num_workers = min(workers, max(1, len(numbers)))
    blocks = steps.block(num_workers * PREFETCH + 1, batch_size)
    blocks.share_memory_()  # type: ignore[no-untyped-call]
    items = _items(InBlocks(steps, blocks, numbers.start), numbers, num_workers)
    for number, item in zip(numbers, items, strict=True):
        if isinstance(item, Fault):
            yield item
        else:
            images = blocks[(number - numbers.start) % len(blocks)][: len(item)].clone()
            labels = torch.from_numpy(steps.source.labels[item])
            yield Batch(images, labels, torch.from_numpy(item))


def _items(
    dataset: InBlocks, numbers: range, num_workers: int
) -> Generator[Indices | Fault, None, None]:
    """Items `numbers`, in order, by new workers from the item that is due where one dies."""
    deaths, due = Deaths(num_workers), numbers.start
    while due < numbers.stop:
        watched = Watched(dataset.steps.source, deaths.places(), deaths.crashed())
        steps = replace(dataset.steps, source=watched)
        iterator = _start(
            replace(dataset, steps=steps), numbers[due - numbers.start :], num_workers
        )
        try:
            for item in iterator:
                due += 1
                yield item
                deaths.restarts = 0
        except RuntimeError as error:
            if not is_death(error):
                raise
            deaths.note(watched.places, [worker.exitcode for worker in iterator._workers])
        finally:
            del iterator  # ends the workers


def _start(dataset: InBlocks, numbers: range, num_workers: int) -> _MultiProcessingDataLoaderIter:
    """An iterator over items `numbers`, in order. Raises RuntimeError where a worker dies."""
    with warnings.catch_warnings():
        # More workers than cores is the user's choice. Python 3.12 warns of fork beside threads:
        # workers start none and use none.
        warnings.filterwarnings(
            "ignore", message="This DataLoader will create", category=UserWarning
        )
        warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=numbers,
            num_workers=num_workers,
            collate_fn=_as_is,  # type: ignore[arg-type]  # batch_size None: gets an item
            worker_init_fn=_start_worker,
            prefetch_factor=PREFETCH,
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            generator=torch.Generator(),  # else the global generator would be advanced
        )
        with _interrupts_held(), _deaths_unsignalled(), safe_children():
            found = iter(loader)
    assert isinstance(found, _MultiProcessingDataLoaderIter)
    return found


@contextmanager
def _deaths_unsignalled() -> Iterator[None]:
    """Take back torch's handler of SIGCHLD: it raises in whatever line the parent is at, in the
    middle of a training step; asking for the next item tells it as well.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    try:
        yield
    finally:
        if is_main and before is not None:
            signal.signal(signal.SIGCHLD, before)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C: a worker started meanwhile never sees one before it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_is(item: Indices | Fault) -> Indices | Fault:
    return item


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    keep_freed_memory()  # decoded pictures come and go: saves a third of the time of decoding
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or parent == 1:  # the parent died in between
            os._exit(1)

"""Batches of picture files: read, decoded and augmented in worker processes, 8 bits a value until
the device.

A worker makes a whole batch: it is given a step number, finds the step's examples (`order`) and
keys (`slots`) itself, and writes the pixels into a block of shared memory. What a step holds is a
function of the step alone, so the number of workers, prefetching and resuming change nothing
(reliability R5). Workers run one thread, ignore Ctrl-C (the parent ends them) and die with the
parent. Without workers the pictures of a batch are shared out among threads of this process: the
decoders and Pillow's resize let go of Python's lock.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from vitrail.config import AugmentConfig
from vitrail.data import slots
from vitrail.data.augment import augment_picture, write_planes
from vitrail.data.batch import Batch
from vitrail.data.crashes import Deaths, Watched, is_death
from vitrail.data.decode import MAX_PIXELS, DecodeFault, Pixels, decode
from vitrail.data.order import batch_indices
from vitrail.data.preprocess import Preprocess, gray_pixels
from vitrail.device import keep_freed_memory, num_cores
from vitrail.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    from vitrail.data.sources import Source

MAX_THREADS = 8  # without workers
PREFETCH = 2  # batches a worker keeps ready
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - torch puts shared tensors there
_PR_SET_PDEATHSIG = 1

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fault:
    """A picture that a worker could not use; becomes VIT-301 in the parent."""

    name: str
    reason: str


class FileLoader:
    """Batches of a source of files; arguments as for `vitrail.data.loader.make_loader`."""

    def __init__(
        self,
        source: Source,
        preprocess: Preprocess,
        augment: AugmentConfig | None,
        *,
        batch_size: int,
        seed: int = 0,
        workers: int = 0,
        on_bad_file: str = "stop",
        max_pixels: int = MAX_PIXELS,
        device: str | torch.device = "cpu",
    ) -> None:
        self._train = TrainSteps(source, preprocess, augment, batch_size, seed, max_pixels)
        self._workers = workers
        self._on_bad_file = on_bad_file
        self._device = torch.device(device)
        self.data_wait_secs = 0.0

    def batches(self, start_step: int, stop_step: int) -> Generator[Batch, None, None]:
        """The training batches of steps `start_step` .. `stop_step` - 1, whatever came before.

        Workers live as long as the iterator. Raises DataError VIT-301 naming the picture that
        cannot be used, EnvironmentFault VIT-521 where shared memory is too small for the workers.
        """
        numbers = range(start_step, stop_step)
        return self._serve(self._train, numbers, self._train.batch_size)

    def eval_batches(self, batch_size: int) -> Generator[Batch, None, None]:
        """Every picture once, in order, with the evaluation preprocessing; the last batch may be
        smaller.
        """
        train = self._train
        parts = EvalParts(train.source, train.preprocess, batch_size, train.max_pixels)
        numbers = range(-(-len(train.source) // batch_size))
        return self._serve(parts, numbers, min(batch_size, len(train.source)))

    def _serve(
        self, dataset: TrainSteps | EvalParts, numbers: range, batch_size: int
    ) -> Generator[Batch, None, None]:
        _check_shared_memory(batch_size, dataset, self._workers)
        iterator = (
            _in_workers(dataset, numbers, self._workers, batch_size)
            if self._workers
            else _in_threads(dataset, numbers)
        )
        try:
            for _ in numbers:
                began = time.perf_counter()
                batch = next(iterator)
                if isinstance(batch, Fault):
                    raise _bad_file(batch, self._on_bad_file)
                images = batch.images.to(self._device)
                self.data_wait_secs += time.perf_counter() - began
                yield Batch(images, batch.labels, batch.indices)
        finally:
            iterator.close()  # ends workers and threads


@dataclass(frozen=True)
class TrainSteps:
    """Item s is the training batch of step s."""

    source: Source
    preprocess: Preprocess
    augment: AugmentConfig | None
    batch_size: int
    seed: int
    max_pixels: int

    def item(
        self, step: int, pool: Executor | None = None, out: torch.Tensor | None = None
    ) -> Batch | Fault:
        """The batch of `step`: pictures shared out among the threads of `pool`, written to `out`
        (B, C, h, w).
        """
        repeats = self.augment.repeats if self.augment else 1
        size = (self.batch_size, len(self.source), repeats)
        indices, epochs, repeat = batch_indices(self.seed, step, *size)
        u = slots.draw(self.seed, epochs, indices, repeat)  # (B, NUM_SLOTS)
        keep_aspect = isinstance(self.preprocess.resize, int)
        target = (self.preprocess.height, self.preprocess.width)
        cropped = self.augment is not None and self.augment.crop != "none"

        def view(place: int, pixels: Pixels, out: Pixels) -> None:
            if self.augment is None or self.augment.crop == "none":
                pixels = self.preprocess.pixels(pixels)
            elif self.preprocess.channels == 1:
                pixels = gray_pixels(pixels)
            if self.augment is None:
                out[...] = pixels.transpose(2, 0, 1)
                return
            image = augment_picture(
                pixels, u[place], self.augment, target,
                interpolation=self.preprocess.crop_interpolation, keep_aspect=keep_aspect,
            )  # fmt: skip
            write_planes(image, out)

        task = Task(self.source, self.max_pixels, cropped and self.preprocess.channels == 3, view)
        return _batch(task, indices, self.block(len(indices)) if out is None else out, pool)

    def block(self, *pictures: int) -> torch.Tensor:
        """Room for so many pictures: (..., C, h, w), without values."""
        one = self.preprocess
        return torch.empty((*pictures, one.channels, one.height, one.width), dtype=torch.uint8)


@dataclass(frozen=True)
class EvalParts:
    """Item k is the k-th run of `batch_size` pictures in order."""

    source: Source
    preprocess: Preprocess
    batch_size: int
    max_pixels: int

    def item(
        self, part: int, pool: Executor | None = None, out: torch.Tensor | None = None
    ) -> Batch | Fault:
        """The batch of `part`; the rest as for `TrainSteps`."""
        first = part * self.batch_size
        indices = np.arange(first, min(first + self.batch_size, len(self.source)), dtype=np.int64)

        def view(_: int, pixels: Pixels, out: Pixels) -> None:
            out[...] = self.preprocess.values(pixels).transpose(2, 0, 1)

        task = Task(self.source, self.max_pixels, False, view)
        return _batch(task, indices, self.block(len(indices)) if out is None else out, pool)

    def block(self, *pictures: int) -> torch.Tensor:
        """Room for so many pictures: (..., C, h, w), without values."""
        one = self.preprocess
        dtype = torch.float32 if one.keep_floats else torch.uint8
        return torch.empty((*pictures, one.channels, one.height, one.width), dtype=dtype)


@dataclass(frozen=True)
class Task:
    """How one picture is made: `view(place, pixels, out)` writes it to `out` (C, h, w)."""

    source: Source
    max_pixels: int
    padded: bool  # whether `view` takes pixels (H, W, 4), see `decode`
    view: Callable[[int, Pixels, Pixels], None]

    def run_share(
        self, counter: Iterator[int], indices: list[int], images: Pixels
    ) -> list[tuple[int, Fault]]:
        """`run` the places of `counter` that no other thread takes, up to the first fault.

        One call a thread: a future a picture would cost a tenth of the time.
        """
        for place in counter:
            if place >= len(indices):
                break
            if fault := self.run(place, indices[place], images[place]):
                return [(place, fault)]
        return []

    def run(self, place: int, index: int, out: Pixels) -> Fault | None:
        """Write picture `index`, the batch's number `place`."""
        name = self.source.source_id(index)
        try:
            data, _ = self.source.read(index)
            pixels = (
                data
                if isinstance(data, np.ndarray)
                else decode(data, name=name, max_pixels=self.max_pixels, padded=self.padded)
            )
        except DecodeFault as fault:
            return Fault(fault.name or name, fault.reason)
        except OSError as error:
            return Fault(name, f"cannot be read ({error.strerror})")
        self.view(place, pixels, out)
        return None


def _batch(task: Task, indices: Indices, out: torch.Tensor, pool: Executor | None) -> Batch | Fault:
    """The batch of `indices`, or the first picture of it that cannot be used."""
    images = out[: len(indices)]
    share = (itertools.count(), indices.tolist(), images.numpy())
    if pool is None:
        faults = task.run_share(*share)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the decoder keeps Pillow quiet in the main thread only
            shares = [pool.submit(task.run_share, *share) for _ in range(_num_threads())]
            faults = [fault for one in shares for fault in one.result()]
    if faults:
        return min(faults, key=lambda found: found[0])[1]
    labels = torch.from_numpy(task.source.labels[indices])
    return Batch(images, labels, torch.from_numpy(indices))


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


def _in_workers(
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
        with _interrupts_held(), _deaths_unsignalled():
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


def _in_threads(
    dataset: TrainSteps | EvalParts, numbers: range
) -> Generator[Batch | Fault, None, None]:
    """Items `numbers`, each made by as many threads as there are cores; closing ends them."""
    threads = _num_threads()
    if threads == 1:
        yield from (dataset.item(number) for number in numbers)
        return
    with ThreadPoolExecutor(threads, "pictures") as pool:
        for number in numbers:
            yield dataset.item(number, pool)


def _num_threads() -> int:
    return min(num_cores(), MAX_THREADS)


def _check_shared_memory(batch_size: int, steps: TrainSteps | EvalParts, workers: int) -> None:
    """Batches wait in /dev/shm; where it is full a worker is killed (containers: 64 MB)."""
    if workers == 0 or not os.path.isdir(SHARED_MEMORY):
        return
    need = batch_size * steps.block(1).nbytes * (workers * PREFETCH + 1)
    free = shutil.disk_usage(SHARED_MEMORY).free
    if need > free:
        raise EnvironmentFault(
            "VIT-521",
            f"shared memory: {workers} workers with batches of {batch_size} pictures need "
            f"{need / 1e6:.0f} MB in {SHARED_MEMORY}, {free / 1e6:.0f} MB are free.",
            hint="Give the container more (docker run --shm-size 1g), or use fewer workers "
            "(--data.workers 0 needs none) or a smaller --batch-size.",
        )


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


def _bad_file(fault: Fault, on_bad_file: str) -> DataError:
    hint = (
        "It was readable when the pictures were checked: it has been changed since."
        if on_bad_file == "skip"
        else "Repair or remove it, or leave bad files out with --on-bad-file skip. "
        "`vitrail data check` lists all."
    )
    return DataError("VIT-301", f"{fault.name}: {fault.reason}", hint=hint)

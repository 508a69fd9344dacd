"""One batch of image files: which images, and how each becomes pixels.

An item is a function of its number alone: it finds its examples (`order`) and their keys (`slots`)
itself. So whoever makes it, a worker or threads of this process, makes the same
(reliability R5).
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.config import AugmentConfig
from vitrail.data.augment import random_slots
from vitrail.data.augment.crops import Size
from vitrail.data.augment.one_image import Fit, augment_image, write_planes
from vitrail.data.images.decode import decode
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.preprocess import Preprocess, gray_pixels
from vitrail.data.images.rgb import Pixels
from vitrail.data.loading.batch import Batch
from vitrail.data.loading.kept_pixels import KeptPixels
from vitrail.data.loading.lanes import Lanes
from vitrail.data.loading.order import batch_indices
from vitrail.data.loading.slots import Slots
from vitrail.data.sources.many_labels import targets
from vitrail.device import num_cores
from vitrail.system import interrupts
from vitrail.system.interrupts import Threads

if TYPE_CHECKING:
    from vitrail.data.sources.source import Readable

MAX_THREADS = 8  # without workers

Indices = NDArray[np.int64]
Begun = dict[int, tuple[float, int]]  # thread -> when it began which image


@dataclass(frozen=True)
class Fault:
    """An image that a worker could not use; becomes VIT-301 in the parent."""

    name: str
    reason: str


@dataclass(frozen=True)
class TrainBatches:
    """Item s is the training batch of step s."""

    source: Readable
    preprocess: Preprocess
    augment: AugmentConfig | None
    batch_size: int
    seed: int
    max_pixels: int
    slots: Slots | None = None  # the rows that are made; all without it
    lanes: Lanes | None = None  # the order, where it goes from shard to shard
    kept: KeptPixels | None = None  # decoded images of epochs before

    def item(
        self, step: int, pool: Threads | None = None, out: torch.Tensor | None = None
    ) -> Batch | Fault:
        """The batch of `step`: images shared out among the threads of `pool`, written to `out`
        (B, C, h, w).
        """
        repeats = self.augment.repeats if self.augment else 1
        if self.lanes is not None:
            indices, epochs, repeat = self.lanes.batch(self.seed, step, self.batch_size, repeats)
        else:
            size = (self.batch_size, len(self.source), repeats)
            indices, epochs, repeat = batch_indices(self.seed, step, *size)
        if self.slots is not None:
            rows = np.concatenate(self.slots.rows())
            indices, epochs, repeat = indices[rows], epochs[rows], repeat[rows]
        u = random_slots.draw(self.seed, epochs, indices, repeat)  # (B, NUM_SLOTS)
        keep_aspect = isinstance(self.preprocess.resize, int)
        cropped = self.augment is not None and self.augment.crop != "none"

        def view(place: int, pixels: Pixels, out: NDArray[Any]) -> None:
            size: Size | Fit = self.preprocess.shown_size(*pixels.shape[:2])
            if self.augment is None or self.augment.crop == "none":
                pixels = self.preprocess.pixels(pixels)
            else:
                size = self.preprocess.shown_size if self.preprocess.is_variable else size
                pixels = gray_pixels(pixels) if self.preprocess.channels == 1 else pixels
            if self.augment is None:
                self._write(pixels, out)
                return
            image = augment_image(
                pixels,
                u[place],
                self.augment,
                size,
                interpolation=self.preprocess.crop_interpolation,
                keep_aspect=keep_aspect,
            )
            if self.preprocess.is_variable:
                self._write(np.asarray(image).reshape(image.height, image.width, -1), out)
            else:
                write_planes(image, out)

        padded = cropped and self.preprocess.channels == 3
        task = DecodeJob(self.source, self.max_pixels, padded, view, self.kept)
        return _batch(task, indices, self.block(len(indices)) if out is None else out, pool)

    def _write(self, pixels: Pixels, out: NDArray[Any]) -> None:
        """Pixels (h, w, C) of the size that the model is shown, as images or packed patches."""
        planes = pixels.transpose(2, 0, 1)
        out[...] = self.preprocess.packed(planes) if self.preprocess.is_variable else planes

    def block(self, *pictures: int) -> torch.Tensor:
        """Room for so many images: (..., C, h, w) or packed patches (..., L, F), without values."""
        one = self.preprocess
        dtype = torch.float32 if one.is_variable else torch.uint8
        return torch.empty((*pictures, *one.input_shape()), dtype=dtype)


@dataclass(frozen=True)
class EvalBatches:
    """Item k is the k-th run of `batch_size` images in order."""

    source: Readable
    preprocess: Preprocess
    batch_size: int
    max_pixels: int

    def item(
        self, part: int, pool: Threads | None = None, out: torch.Tensor | None = None
    ) -> Batch | Fault:
        """The batch of `part`; the rest as for `TrainBatches`."""
        first = part * self.batch_size
        indices = np.arange(first, min(first + self.batch_size, len(self.source)), dtype=np.int64)

        def view(_: int, pixels: Pixels, out: NDArray[Any]) -> None:
            if self.preprocess.is_variable:
                out[...] = self.preprocess.of_pixels(pixels)
            else:
                out[...] = self.preprocess.values(pixels).transpose(2, 0, 1)

        task = DecodeJob(self.source, self.max_pixels, False, view)
        return _batch(task, indices, self.block(len(indices)) if out is None else out, pool)

    def block(self, *pictures: int) -> torch.Tensor:
        """Room for so many images: (..., C, h, w) or packed patches (..., L, F), without values."""
        one = self.preprocess
        dtype = torch.float32 if one.keep_floats or one.is_variable else torch.uint8
        return torch.empty((*pictures, *one.input_shape()), dtype=dtype)


@dataclass(frozen=True)
class DecodeJob:
    """How one image is made: `view(place, pixels, out)` writes it to `out` (C, h, w)."""

    source: Readable
    max_pixels: int
    padded: bool  # whether `view` takes pixels (H, W, 4), see `decode`
    view: Callable[[int, Pixels, Pixels], None]
    kept: KeptPixels | None = None

    def run_share(
        self, places: deque[int], indices: list[int], images: Pixels, begun: Begun
    ) -> list[tuple[int, Fault]]:
        """`run` what no other thread takes of `places`, up to the first fault.

        One call a thread: a future an image would cost a tenth of the time.
        """
        thread = threading.get_ident()
        try:
            while True:
                try:
                    place = places.popleft()
                except IndexError:
                    return []
                begun[thread] = (time.monotonic(), indices[place])
                if fault := self.run(place, indices[place], images[place]):
                    return [(place, fault)]
        finally:
            begun.pop(thread, None)

    def check_progress(self, begun: Begun) -> None:
        """Raise EnvironmentFault VIT-527 where a thread has been at an image for too long."""
        for since, index in [*begun.values()]:
            if (secs := time.monotonic() - since) > interrupts.STALL_SECS:
                raise interrupts.no_progress(self.source.source_id(index), secs)

    def run(self, place: int, index: int, out: Pixels) -> Fault | None:
        """Write image `index`, the batch's number `place`."""
        name = self.source.source_id(index)
        try:
            self.view(place, self._pixels(index, name), out)
        except DecodeFault as fault:
            return Fault(fault.name or name, fault.reason)
        except OSError as error:
            return Fault(name, f"cannot be read ({error.strerror})")
        except MemoryError:
            return Fault(name, "not enough memory to decode it")
        return None

    def _pixels(self, index: int, name: str) -> Pixels:
        """Image `index` (H, W, C), read, and decoded unless it was kept."""
        data, _ = self.source.read(index)
        if isinstance(data, np.ndarray):
            return data
        kept = None if self.kept is None else self.kept.get(index, data)
        if kept is not None:
            return kept
        pixels = decode(data, name=name, max_pixels=self.max_pixels, padded=self.padded)
        if self.kept is not None:
            self.kept.keep(index, data, pixels)
        return pixels


def _batch(
    task: DecodeJob, indices: Indices, out: torch.Tensor, pool: Threads | None
) -> Batch | Fault:
    """The batch of `indices`, or the first image of it that cannot be used."""
    images = out[: len(indices)]
    begun: Begun = {}
    places = deque(range(len(indices)))
    share = (places, indices.tolist(), images.numpy(), begun)
    if pool is None:
        faults = task.run_share(*share)
    else:
        with warnings.catch_warnings():
            # the decoder keeps Pillow quiet in the main thread only
            warnings.simplefilter("ignore")
            shares = [pool.submit(task.run_share, *share) for _ in range(pool.count)]
            watch = partial(task.check_progress, begun)
            try:
                results = [pool.result_of(one, watch=watch) for one in shares]
            finally:
                places.clear()  # threads that are left behind do no more
        faults = [fault for result in results for fault in result]
    if faults:
        return min(faults, key=lambda found: found[0])[1]
    labels = torch.from_numpy(targets(task.source.labels, indices))
    return Batch(images, labels, torch.from_numpy(indices))


def in_threads(
    dataset: TrainBatches | EvalBatches, numbers: range, grace_secs: float = 0.0
) -> Generator[Batch | Fault, None, None]:
    """Items `numbers`, each made by as many threads as there are cores; closing ends them. One core
    has a thread too: the caller's must see a request to stop while a disk does not answer.
    """
    with Threads(_num_threads(), "pictures", grace_secs) as pool:
        for number in numbers:
            interrupts.check(grace_secs)
            yield dataset.item(number, pool)


def _num_threads() -> int:
    return min(num_cores(), MAX_THREADS)

"""What the training images are like, measured before anything is chosen: size, colour, statistics,
mirror images. Samples do not depend on the order of the data (`data/sources/sample.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vitrail.config import TrainConfig
from vitrail.data.images.decode import decode, decode_size
from vitrail.data.loading.isolated import each, is_cheap
from vitrail.data.sources.open_data import Source, Splits, open_as, subset
from vitrail.data.sources.sample import keyed_order, sample
from vitrail.data.sources.source import Labels
from vitrail.errors import DataError, UsageError
from vitrail.spelling import count

SAMPLE = 256  # files looked at
DECODED = 64  # of them decoded
SMALL_SIDE = 64  # px; images of one size up to here are small ones, in files as in memory
MEASURED = 10_000  # images in memory whose statistics are taken
QUERIES, BANK = 1_000, 5_000  # of the mirror test
LEAST_QUERIES = 20  # fewer tell nothing


@dataclass(frozen=True)
class Facts:
    """Of the training split.

    size: median (height, width) px; mean, std: per channel, of values in [0, 1].
    """

    num_train: int
    kind: str  # "arrays" or "files"
    size: tuple[int, int]
    channels: int  # 1 where every image looked at is gray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirrored: tuple[float, float] | None  # nearest-neighbour accuracy: as it is, mirrored; small
    decoded: int = 0  # files whose colours were looked at
    is_photos: bool = False  # files of several sizes, or of larger ones


def open_splits(asked: TrainConfig) -> Splits:
    """The data that a user asked for. Raises UsageError VIT-201 where none is named, DataError."""
    if not asked.data.path:
        raise UsageError(
            "VIT-201",
            "DATA is missing: what to train on.",
            hint="For instance: vitrail train builtin:digits",
        )
    is_unlabelled = asked.objective == "masked_patches" or asked.recipe == "paper.masked_patches"
    return open_as(asked.data, asked.seed, min_classes=1 if is_unlabelled else 2)


def measure(source: Source) -> Facts:
    """Facts of a training split, from a sample of it; a pure function."""
    images = source.images
    if images is not None:
        order = keyed_order(source, "facts")
        mean, std = _statistics([images if len(images) <= MEASURED else images[order[:MEASURED]]])
        size = (int(images.shape[1]), int(images.shape[2]))
        mirrored = _mirror_test(images, source.labels, order) if source.labels.ndim == 1 else None
        return Facts(len(source), "arrays", size, int(images.shape[3]), mean, std, mirrored)
    places = sample(source, SAMPLE, "facts")
    first, others = places[:DECODED], places[DECODED:]
    looked = [*_look(source, first, pixels=True), *_look(source, others, pixels=False)]
    sizes = [one.size for one in looked if one.size]
    pictures = [one.pixels for one in looked if one.pixels is not None]
    faults = [one.fault for one in looked if one.fault]
    if len(pictures) < min(DECODED, len(sizes)):  # some of the first are bad
        more = _look(source, others, pixels=True)
        pictures += [one.pixels for one in more if one.pixels is not None]
        pictures = pictures[:DECODED]
    if not pictures:
        listed = "\n".join(faults[:3])
        raise DataError(
            "VIT-301",
            f"none of the {count(len(places), 'training image')} sampled can be decoded:\n{listed}",
            hint="See what is wrong with all of them: vitrail data check DATA",
        )
    if len(set(sizes)) == 1 and max(sizes[0]) <= SMALL_SIDE:
        return _measure_small(source, sizes[0])
    is_gray = all(bool((p == p[:, :, :1]).all()) for p in pictures)
    mean, std = _statistics([p[None, :, :, :1] if is_gray else p[None] for p in pictures])
    height, width = np.median(np.array(sizes), axis=0)
    size = (int(height), int(width))
    return Facts(len(source), "files", size, len(mean), mean, std, None, len(pictures), True)


def _measure_small(source: Source, size: tuple[int, int]) -> Facts:
    """Facts of files of small images, all of `size` as far as was looked: as of arrays."""
    places = keyed_order(source, "facts")[: QUERIES + BANK]
    looked = _look(source, places, pixels=True, step=1)
    found = {
        int(place): one.pixels
        for place, one in zip(places, looked, strict=True)
        if one.pixels is not None and one.pixels.shape[:2] == size
    }
    images = np.stack([*found.values()])
    if bool((images == images[..., :1]).all()):
        images = images[..., :1]
    mean, std = _statistics([images])
    labels, order = source.labels[[*found]], np.arange(len(found))
    mirrored = _mirror_test(images, labels, order) if labels.ndim == 1 else None
    return Facts(len(source), "files", size, len(mean), mean, std, mirrored, len(found))


@dataclass(frozen=True)
class _Looked:
    """One file: its size and some or all of its pixels, or a line about what is wrong with it."""

    size: tuple[int, int] | None = None
    pixels: NDArray[np.uint8] | None = None
    fault: str = ""


def _look(
    source: Source, places: NDArray[np.int64], *, pixels: bool, step: int = 2
) -> list[_Looked]:
    """The files at `places`, read in a process of its own where that is cheap. step: every how
    manieth pixel is taken.
    """
    chosen = subset(source, places)
    one = partial(_look_at, step if pixels else 0)
    if is_cheap():
        return [*each(chosen, one, chunk=4)]
    return [one(chosen, index) for index in range(len(chosen))]


def _look_at(step: int, source: Source, index: int) -> _Looked:
    try:
        data, _ = source.read(index)
        assert isinstance(data, bytes)
        size = decode_size(data)
        return _Looked(size, decode(data)[::step, ::step].copy() if step else None)
    except DataError as fault:  # named by the check that runs before training
        reason = getattr(fault, "reason", fault)
        return _Looked(fault=f"  {source.source_id(index)}   {reason}")
    except MemoryError:
        return _Looked(fault=f"  {source.source_id(index)}   not enough memory to decode it")


def _statistics(
    groups: list[NDArray[np.uint8]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over (n, H, W, C) groups, from exact histograms."""
    channels = groups[0].shape[-1]
    means, stds = [], []
    for channel in range(channels):
        counts = sum(np.bincount(group[..., channel].ravel(), minlength=256) for group in groups)
        values = np.arange(256) / 255
        total = np.sum(counts)
        mean = float((counts * values).sum() / total)
        means.append(round(mean, 4))
        stds.append(
            max(1e-3, round(float(np.sqrt((counts * (values - mean) ** 2).sum() / total)), 4))
        )
    return tuple(means), tuple(stds)


def _mirror_test(
    images: NDArray[np.uint8], labels: Labels, order: NDArray[np.int64]
) -> tuple[float, float] | None:
    """How often an image's nearest other one has its class: as it is, and mirrored.

    Shares of up to 1,000 training images; None of too few. Where mirrored images still find their
    class, a horizontal flip is an augmentation; a mirrored 3 does not.
    """
    order = order[: QUERIES + BANK]
    n, cut = len(order), min(QUERIES, len(order) // 5)
    if cut < LEAST_QUERIES:
        return None
    images, labels = images[order].astype(np.float32), labels[order]
    queries, bank = images[:cut], images[cut:].reshape(n - cut, -1)
    norms = (bank**2).sum(axis=1)
    accuracies = []
    for shown in (queries, queries[:, :, ::-1]):
        distances = norms - 2 * shown.reshape(cut, -1) @ bank.T  # (cut, n - cut)
        accuracies.append(float((labels[cut:][distances.argmin(axis=1)] == labels[:cut]).mean()))
    return accuracies[0], accuracies[1]

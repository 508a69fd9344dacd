"""What the training pictures are like, measured before anything is chosen.

Size, colour, statistics, mirror images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.data.decode import decode, decode_size
from vitrail.data.sources import ArraySource, FileSource, Source
from vitrail.errors import DataError

SAMPLE = 256  # pictures looked at


@dataclass(frozen=True)
class Facts:
    """Of the training split.

    size: median (height, width) px; mean, std: per channel, of values in [0, 1].
    """

    num_train: int
    kind: str  # "arrays" or "files"
    size: tuple[int, int]
    channels: int  # 1 where every picture looked at is gray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirrored: tuple[float, float] | None  # nearest-neighbour accuracy: as it is, mirrored; arrays


def measure(source: Source) -> Facts:
    """Facts of a training split, from a sample spread evenly over it; a pure function."""
    places = np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(np.int64))
    if isinstance(source, ArraySource):
        images = source.images
        mean, std = _statistics([images[:: max(1, len(images) // 10_000)]])
        size = (int(images.shape[1]), int(images.shape[2]))
        mirrored = _mirror_test(source) if source.labels.ndim == 1 else None
        return Facts(len(source), "arrays", size, int(images.shape[3]), mean, std, mirrored)
    assert isinstance(source, FileSource)
    sizes, pictures = [], []
    for number, place in enumerate(places):
        try:
            data, _ = source.read(int(place))
            sizes.append(decode_size(data))
            if number % 4 == 0:
                pictures.append(decode(data, name=source.source_id(int(place)))[::2, ::2])
        except DataError:  # named by the check that runs before training
            continue
    if not pictures:
        raise DataError(
            "VIT-301",
            f"none of the {len(places)} training pictures looked at can be decoded.",
            hint="See what is wrong with them: vitrail data check DATA",
        )
    is_gray = all(bool((p == p[:, :, :1]).all()) for p in pictures)
    mean, std = _statistics([p[None, :, :, :1] if is_gray else p[None] for p in pictures])
    height, width = np.median(np.array(sizes), axis=0)
    return Facts(len(source), "files", (int(height), int(width)), len(mean), mean, std, None)


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


def _mirror_test(source: ArraySource) -> tuple[float, float]:
    """How often a picture's nearest other one has its class: as it is, and mirrored.

    Shares of up to 1,000 training pictures. Where mirrored pictures still find their class, a
    horizontal flip is an augmentation; a mirrored 3 does not.
    """
    step = max(1, len(source) // 6000)
    images, labels = source.images[::step].astype(np.float32), source.labels[::step]
    n, cut = len(images), min(1000, len(images) // 5)
    queries, bank = images[:cut], images[cut:].reshape(n - cut, -1)
    norms = (bank**2).sum(axis=1)
    accuracies = []
    for shown in (queries, queries[:, :, ::-1]):
        distances = norms - 2 * shown.reshape(cut, -1) @ bank.T  # (cut, n - cut)
        accuracies.append(float((labels[cut:][distances.argmin(axis=1)] == labels[:cut]).mean()))
    return accuracies[0], accuracies[1]

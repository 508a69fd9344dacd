"""What no learning at all achieves: the figures that a trained model has to beat.

- Majority class: always the most common class of the training images.
- Nearest neighbour: the class of the training images whose pixels are nearest (squared Euclidean
  distance of colours, images of more than 32 x 32 px reduced to that). One or five neighbours:
  what classifies a sample of the training images better, each left out in turn; the judged
  images have no say. Large data are sampled by a fixed seed, and the name of the figure then says
  so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vitrail.data.images.decode import decode
from vitrail.data.sources.open_data import Source
from vitrail.errors import DataError
from vitrail.spelling import count

SIDE = 32  # px
MAX_TRAIN, MAX_JUDGED = 20_000, 10_000  # images in memory
MAX_TRAIN_FILES, MAX_JUDGED_FILES = 2_000, 1_000  # images to decode
MAX_CHOOSING = 2_000  # training images that choose between one and five neighbours
MAX_PRODUCTS = 6e11  # multiply-adds: some seconds on two cores
PRODUCTS, FEW_JUDGED = 1e10, 2_000  # a second of one core, and who is judged in less than a minute
CHUNK = 500
Features = NDArray[np.float32]
Labels = NDArray[np.int64] | NDArray[np.float32]


def baselines(
    train: Source, judged: Source, *, max_secs: float = 60.0, slowness: float = 1.0
) -> dict[str, float]:
    """Top-1 of each baseline on `judged`, by a name for people: "majority class" and "nearest
    neighbour", "5 nearest neighbours" or either with "(of 2000 training images)".

    In less than a minute fewer images are compared; the neighbours are left out where even they
    take longer than `max_secs`. slowness: how many times as long things take as on an idle machine.
    """
    if not len(judged) or not len(train):
        return {}
    found = {"majority class": majority(train.labels, judged.labels)}
    products = min(MAX_PRODUCTS, PRODUCTS * max_secs / slowness)
    neighbours = nearest_neighbours(train, judged, max_secs=max_secs, products=products)
    return found | ({neighbours[0]: neighbours[1]} if neighbours else {})


def majority(train_labels: Labels, labels: Labels) -> float:
    """Share of `labels` that are (or, with several labels an image, hold) the most common class of
    `train_labels`; of equally common ones the first.
    """
    if train_labels.ndim == 2:
        return float((labels[:, int(train_labels.sum(axis=0).argmax())] > 0).mean())
    return float((labels == np.bincount(train_labels.astype(np.int64)).argmax()).mean())


def nearest_neighbours(
    train: Source,
    judged: Source,
    *,
    max_secs: float = 60.0,
    seed: int = 0,
    products: float = MAX_PRODUCTS,
) -> tuple[str, float] | None:
    """The name and the top-1 of the nearest-neighbour baseline; None past `max_secs`, or where a
    image has several labels. products: multiply-adds; images are sampled to need no more.
    """
    if train.labels.ndim == 2:
        return None
    deadline = time.monotonic() + max_secs
    in_memory = train.images is not None and judged.images is not None
    num_judged = min(len(judged), MAX_JUDGED if in_memory else MAX_JUDGED_FILES)
    num_train = min(len(train), MAX_TRAIN if in_memory else MAX_TRAIN_FILES)
    if products < MAX_PRODUCTS:
        num_judged = min(num_judged, FEW_JUDGED)
    try:
        queries, query_labels = _features(judged, _sample(len(judged), num_judged, seed), deadline)
        limit = int(products / (queries.shape[1] * (num_judged + MAX_CHOOSING)))
        chosen = _sample(len(train), max(1, min(num_train, limit)), seed)
        bank, bank_labels = _features(train, chosen, deadline)
        choosing = _sample(len(bank), min(MAX_CHOOSING, len(bank)), seed)
        left_out = _nearest(
            bank[choosing], bank, 6, deadline
        )  # (c, 6), the image itself among them
        k = _choose_k(left_out, choosing, bank_labels)
        votes = _vote(_nearest(queries, bank, k, deadline), bank_labels)
    except TimeoutError:
        return None
    name = "nearest neighbour" if k == 1 else f"{k} nearest neighbours"
    limits = [f"of {count(len(bank), 'training image')}"] if len(bank) < len(train) else []
    limits += [f"on {count(len(queries), 'image')}"] if len(queries) < len(judged) else []
    return (f"{name} ({', '.join(limits)})" if limits else name), float(
        (votes == query_labels).mean()
    )


def _sample(n: int, count: int, seed: int) -> NDArray[np.int64]:
    """`count` of n indices in ascending order, spread by `seed`; all where count is n."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:count])


def _features(
    source: Source, indices: Sequence[int] | NDArray[np.int64], deadline: float
) -> tuple[Features, NDArray[np.int64]]:
    """Pixels (n, d) from 0 to 1 and labels (n,) of the images that can be decoded."""
    rows, labels = [], []
    for index in map(int, indices):
        if time.monotonic() > deadline:
            raise TimeoutError
        content, label = source.read(index)
        is_file = isinstance(content, bytes)
        try:
            image = decode(content) if isinstance(content, bytes) else content
        except DataError:
            continue  # named by the check before training; a baseline does without it
        rows.append(_reduced(image, is_file=is_file).reshape(-1))
        labels.append(int(label))
    if not rows:
        raise TimeoutError
    pixels = np.stack(rows).astype(np.float32) / np.float32(255)
    return pixels, np.array(labels, dtype=np.int64)


def _reduced(pixels: NDArray[np.uint8], *, is_file: bool) -> NDArray[np.uint8]:
    """Images in files as 32 x 32 px; those in memory as they are, or at most that."""
    height, width = pixels.shape[:2]
    if not is_file and height * width <= SIDE * SIDE:
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def _nearest(queries: Features, bank: Features, k: int, deadline: float) -> NDArray[np.int64]:
    """Indices (n, k) into `bank` (m, d) of the nearest rows to each of `queries` (n, d), nearest
    first.

    |q - b|^2 = |q|^2 - 2 q.b + |b|^2, where |q|^2 does not change the order; both are centred
    first, which keeps float32 exact enough.
    """
    centre = bank.mean(axis=0)
    stored = torch.from_numpy(bank - centre)  # (m, d)
    norms = stored.square().sum(dim=1)  # (m,)
    found: list[Tensor] = []
    for start in range(0, len(queries), CHUNK):
        if time.monotonic() > deadline:
            raise TimeoutError
        part = torch.from_numpy(queries[start : start + CHUNK] - centre)  # (c, d)
        distances = torch.addmm(norms, part, stored.T, alpha=-2)  # (c, m)
        found.append(distances.topk(min(k, len(bank)), dim=1, largest=False).indices)
    return np.asarray(torch.cat(found).numpy(), dtype=np.int64)


def _choose_k(
    left_out: NDArray[np.int64], own: NDArray[np.int64], labels: NDArray[np.int64]
) -> int:
    """1 or 5: what is right more often for images that may not be their own neighbour."""
    if left_out.shape[1] < 6:
        return 1
    others = np.stack([row[row != i][:5] for row, i in zip(left_out, own, strict=True)])
    right = {k: float((_vote(others[:, :k], labels) == labels[own]).mean()) for k in (1, 5)}
    return 5 if right[5] > right[1] else 1


def _vote(neighbours: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most common label of each row; of equally common ones that of the nearest. (n,)"""
    votes = labels[neighbours]  # (n, k)
    counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)  # (n, k)
    return np.asarray(np.take_along_axis(votes, counts.argmax(axis=1)[:, None], axis=1)[:, 0])

"""k nearest neighbours of frozen features: cosine similarity, plain and weighted votes.

Source: arXiv 1805.01978, section 3.4, as used for self-supervised ViTs in arXiv 2104.14294 (DINO,
`eval_knn.py`): of the k training images with the largest cosine, each votes for its class with
weight exp(cosine / temperature), temperature 0.07. The plain vote counts 1 for each; of classes
with equally many votes, the one with the nearest image wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

NEIGHBOURS = (1, 5, 10, 20, 100, 200)
TEMPERATURE = 0.07
CHUNK_NUMBERS = 2**25  # cosines in memory at a time

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def accuracies(
    bank: tuple[Features, Labels],
    judged: tuple[Features, Labels],
    num_classes: int,
    ks: Sequence[int] = NEIGHBOURS,
    *,
    temperature: float = TEMPERATURE,
    device: torch.device | str = "cpu",
) -> list[tuple[float, float]]:
    """(plain, weighted) top-1 for each k on `judged`, by the votes of `bank`, each (n, R) and (n,).

    k at most the number of images in the bank.
    """
    labels = torch.from_numpy(bank[1]).to(device)
    right = np.zeros((len(ks), 2), np.int64)
    start = 0
    for cosines, places in nearest(bank[0], judged[0], max(ks), device):  # (c, k), (c, k)
        own = torch.from_numpy(judged[1][start : start + len(places)]).to(device)
        start += len(own)
        for row, k in enumerate(ks):
            classes = labels[places[:, :k]]  # (c, k)
            for column, votes in enumerate(
                (
                    plain_votes(classes, num_classes),
                    weighted_votes(classes, cosines[:, :k], num_classes, temperature),
                )
            ):
                right[row, column] += int((votes.argmax(dim=1) == own).sum())
    return [(float(a), float(b)) for a, b in right / max(1, len(judged[1]))]


def nearest(
    bank: Features, judged: Features, k: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """The k largest cosines (c, k) and the places (c, k) of those images in `bank`, largest
    first, for one chunk of `judged` after another.
    """
    stored = F.normalize(torch.from_numpy(bank).to(device), dim=1)  # (m, R)
    size = max(1, CHUNK_NUMBERS // len(bank))
    for first in range(0, len(judged), size):
        part = torch.from_numpy(judged[first : first + size]).to(device)
        found = (F.normalize(part, dim=1) @ stored.T).topk(k, dim=1)
        yield found.values, found.indices


def plain_votes(classes: Tensor, num_classes: int) -> Tensor:
    """(c, K): votes of each class, less a part of one that grows with the rank of its nearest.

    classes: (c, k), of the neighbours, nearest first.
    """
    c, k = classes.shape
    votes = torch.zeros(c, num_classes, device=classes.device)
    votes.scatter_add_(1, classes, torch.ones_like(classes, dtype=votes.dtype))
    ranks = torch.arange(k, device=classes.device, dtype=votes.dtype).expand(c, k)
    first = torch.full_like(votes, k).scatter_reduce_(1, classes, ranks, "amin")
    return votes - first / (k + 1)


def weighted_votes(
    classes: Tensor, cosines: Tensor, num_classes: int, temperature: float
) -> Tensor:
    """(c, K): sum of exp((cosine - the largest) / temperature) over the neighbours of each class.

    classes, cosines: (c, k). Taking off the largest scales all votes of an image alike.
    """
    weights = ((cosines - cosines[:, :1]) / temperature).exp()
    votes = torch.zeros(len(classes), num_classes, device=classes.device)
    return votes.scatter_add_(1, classes, weights)

"""What images probably are, told by all the others: ridge regression, each image left out.

No network is trained: features are cheap ones (`gradients`) or those of a frozen model that has not
learnt from these images. Ridge regression has its leave-one-out predictions in closed form (Allen
1974, PRESS): with hat values h_i, the score of image i by a fit without it is (s_i - h_i y_i) /
(1 - h_i). Targets are -1 and 1 with an intercept that is not regularised; l2 is chosen by the
left-out squared error; scores become probabilities by a softmax with the slope of least left-out
negative log-likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

EPS = 1e-5
L2S = tuple(10.0**power for power in range(-4, 2))  # times the number of images
SLOPES = tuple(np.geomspace(0.5, 64, 57).tolist())
CHUNK = 4096
BINS = 18  # directions
CELLS = (4, 7)  # along each side
COLOURS = 8  # cells of plain values along each side

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LooPredictions:
    """probabilities (n, K) of images by all the others; the l2 and the slope that were chosen."""

    probabilities: NDArray[np.float32]
    l2: float
    slope: float


def left_out(
    features: Features, labels: Labels, num_classes: int, l2s: Sequence[float] = L2S
) -> LooPredictions:
    """features (n, R), labels (n,), n at least 2."""
    n = len(features)
    targets = 2.0 * np.eye(num_classes)[labels] - 1.0
    scores, l2 = left_out_scores(features, targets, [one * n for one in l2s])
    losses = [_loss(one * scores, labels) for one in SLOPES]
    slope = SLOPES[int(np.argmin(losses))]
    return LooPredictions(_softmax(slope * scores).astype(np.float32), l2, slope)


def left_out_scores(
    features: Features, targets: Floats, l2s: Sequence[float]
) -> tuple[Floats, float]:
    """(n, K) scores of each image by a fit without it, and the best of `l2s`."""
    n = len(features)
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64) + EPS
    level = targets.mean(axis=0)
    parts = [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]

    def standard(part: slice) -> Floats:
        return np.asarray((features[part] - mean) / std)

    size = features.shape[1]
    gram, moments = np.zeros((size, size)), np.zeros((size, targets.shape[1]))
    for part in parts:
        x = standard(part)
        gram += x.T @ x
        moments += x.T @ (targets[part] - level)
    eigenvalues, axes = np.linalg.eigh(gram)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    right = axes.T @ moments  # (R, K)
    found = [np.empty_like(targets) for _ in l2s]
    for part in parts:
        turned = standard(part) @ axes  # (m, R)
        for scores, l2 in zip(found, l2s, strict=True):
            hat = (turned**2 / (eigenvalues + l2)).sum(axis=1, keepdims=True) + 1 / n
            fitted = turned @ (right / (eigenvalues + l2)[:, None]) + level
            hat = np.minimum(hat, 1 - 1e-9)
            scores[part] = (fitted - hat * targets[part]) / (1 - hat)
    errors = [float(((scores - targets) ** 2).mean()) for scores in found]
    best = int(np.argmin(errors))
    return found[best], l2s[best]


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _loss(logits: Floats, labels: Labels) -> float:
    highest = logits.max(axis=1)
    total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def gradients(images: NDArray[np.uint8]) -> Features:
    """Histograms of gradients (Dalal and Triggs, CVPR 2005) of images (n, H, W, C), with the
    direction's sign, on two grids, and the plain values of a coarse grid. (n, R)
    """
    parts = [images[start : start + 512] for start in range(0, len(images), 512)]
    return np.concatenate([_gradients(torch.from_numpy(part)).numpy() for part in parts])


def _gradients(images: Tensor) -> Tensor:
    values = images.permute(0, 3, 1, 2).float() / 255  # (n, C, H, W)
    luma = values.mean(dim=1, keepdim=True)
    framed = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    across = (framed[:, 0, 1:-1, 2:] - framed[:, 0, 1:-1, :-2]) / 2  # (n, H, W)
    down = (framed[:, 0, 2:, 1:-1] - framed[:, 0, :-2, 1:-1]) / 2
    steepness = torch.hypot(across, down)
    direction = torch.atan2(down, across) / (2 * torch.pi) % 1 * BINS  # 0 to BINS
    lower = direction.floor()
    share = direction - lower
    bins = torch.zeros(len(images), BINS, *luma.shape[2:])
    below, above = lower.long() % BINS, (lower.long() + 1) % BINS
    bins.scatter_add_(1, below[:, None], (steepness * (1 - share))[:, None])
    bins.scatter_add_(1, above[:, None], (steepness * share)[:, None])
    grids = [F.adaptive_avg_pool2d(bins, cells).flatten(1) for cells in CELLS]
    histograms = [one / (one.norm(dim=1, keepdim=True) + 1e-3) for one in grids]
    side = min(COLOURS, *luma.shape[2:])
    plain = F.adaptive_avg_pool2d(values, side).flatten(1) / side
    return torch.cat([*histograms, plain], dim=1).sqrt()  # roots: Arandjelovic, CVPR 2012

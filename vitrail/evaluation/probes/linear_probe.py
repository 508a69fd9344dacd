"""Linear probe: multinomial logistic regression on frozen features, l2 chosen on validation.

Source: the linear evaluation of arXiv 2103.00020, appendix A.3 (L-BFGS, full batch, l2 from a
logarithmic sweep chosen on validation). What is minimised, on features standardised with the
training images' mean and std:

    mean over images of cross-entropy(W x + b)  +  l2 / 2 * |W|^2

which is scikit-learn's LogisticRegression with C = 1 / (l2 n); the bias b is not regularised.
Computed in float64. Features of one model are far from independent, which L-BFGS alone takes
thousands of steps for. So x is turned into the principal axes, which leaves |W| as it is, and the
steps along an axis of variance v are scaled by (c v + l2)^-1/2, about the root of the curvature
there; what is minimised stays the same. The sweep goes from the strongest l2 to the weakest, each
fit starting from the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitrail.evaluation.probes.features import silent

SWEEP = tuple(10.0**power for power in range(1, -7, -1))
TOLERANCE = 1e-6  # largest entry of the gradient
MAX_ITERATIONS = 1000
HISTORY = 50  # pairs that L-BFGS remembers
MIN_STD = 1e-5  # a feature that is the same everywhere stays at 0

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Linear:
    """Logits (x - mean) / std W' + b. mean, std (R,); weights (K, R); bias (K,); float64."""

    mean: Tensor
    std: Tensor
    weights: Tensor
    bias: Tensor
    l2: float
    iterations: int
    gradient: float  # largest entry where it stopped

    def logits(self, features: Features) -> Tensor:
        """(n, K) of features (n, R)."""
        x = torch.from_numpy(features).to(self.mean).sub_(self.mean).div_(self.std)
        return torch.addmm(self.bias, x, self.weights.T)

    def accuracy(self, features: Features, labels: Labels) -> float:
        """Share of the images whose best class is their label."""
        return float((self.logits(features).argmax(dim=1).cpu().numpy() == labels).mean())


def fit_sweep(
    features: Features,
    labels: Labels,
    num_classes: int,
    l2s: Sequence[float] = SWEEP,
    *,
    device: torch.device | str = "cpu",
    tolerance: float = TOLERANCE,
    progress: Callable[[str, int, int], None] = silent,
) -> list[Linear]:
    """The minimum for each l2, the strongest first. features (n, R), labels (n,); progress: told of
    each fit.
    """
    # MPS has no float64
    place = torch.device(device) if torch.device(device).type == "cuda" else torch.device("cpu")
    x = torch.from_numpy(features).to(place, torch.float64, copy=True)
    mean = x.mean(dim=0)
    std = x.std(dim=0, correction=0).clamp_(min=MIN_STD)
    x.sub_(mean).div_(std)
    y = torch.from_numpy(labels).to(place)
    variances, axes = torch.linalg.eigh(x.T @ x / len(x))  # (R,), (R, R)
    x = x @ axes
    curvature = (num_classes - 1) / num_classes**2 * variances.clamp_(min=0.0)
    theta = torch.zeros(num_classes, x.shape[1] + 1, dtype=torch.float64, device=place)
    found: list[Linear] = []
    for l2 in sorted(l2s, reverse=True):
        theta, iterations, gradient = minimise(x, y, theta, l2, curvature, tolerance)
        weights, bias = theta[:, :-1] @ axes.T, theta[:, -1].clone()
        found.append(Linear(mean, std, weights, bias, l2, iterations, gradient))
        progress(f"logistic regression, l2 {l2:g}", len(found), len(l2s))
    return found


def minimise(
    x: Tensor, y: Tensor, start: Tensor, l2: float, curvature: Tensor, tolerance: float
) -> tuple[Tensor, int, float]:
    """(theta, iterations, largest entry of the gradient there) from `start`.

    x: (n, R) float64; y: (n,) int64; theta: (K, R + 1), the bias in the last column; curvature:
    (R,), of the loss along each feature, roughly.
    """
    n = len(x)  # torch's L-BFGS has absolute thresholds that a sum over the images passes later
    scale = (curvature + l2).rsqrt()  # (R,)
    steps = torch.cat([start[:, :-1] / scale, start[:, -1:]], dim=1).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [steps],
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        history_size=HISTORY,
        tolerance_grad=tolerance * n,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        weights = steps[:, :-1] * scale  # (K, R)
        logits = torch.addmm(steps[:, -1], x, weights.T)  # (n, K)
        value = F.cross_entropy(logits, y, reduction="sum")
        value = value + n * l2 / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
        loss()
    gradient = 0.0 if steps.grad is None else float(steps.grad.abs().max()) / n
    end = steps.detach()
    theta = torch.cat([end[:, :-1] * scale, end[:, -1:]], dim=1)
    return theta, int(optimiser.state[steps]["n_iter"]), gradient


def best_of(fits: Sequence[Linear], features: Features, labels: Labels) -> tuple[int, list[float]]:
    """(place of the best, accuracy of each) on validation images; of equals the strongest l2."""
    scores = [one.accuracy(features, labels) for one in fits]
    return int(np.argmax(scores)), scores

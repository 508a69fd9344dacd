"""Few-shot accuracy in closed form: ridge regression of frozen features onto the classes.

Source: arXiv 2010.11929, section 4.1 ("regularized least-squares regression ... maps the (frozen)
representation of a subset of training images to {-1, 1}^K target vectors") and big_vision's
`evaluators/fewshot_lsr.py`, which gives what the paper leaves open: k images of every class by
one permutation a seed, features standardised with their mean and (biased std + 1e-5), a constant
feature 100 in the place of a bias that is not regularised, l2 = 2^10.

One eigendecomposition serves every l2: X'X = Q E Q' gives W = Q (E + l2)^-1 Q'X'Y, and where
images are fewer than features, XX' = Q E Q' gives W = X'Q (E + l2)^-1 Q'Y; the two are equal.
Difference: float64 where the source has float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BIAS = 100.0
EPS = 1e-5
L2 = 2.0**10
SWEEP = tuple(2.0**power for power in range(-10, 21, 5))

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Float64s = NDArray[np.float64]


def draw_shots(labels: Labels, num_classes: int, shots: int, seed: int) -> Labels:
    """Indices of `shots` images of each class in class order, all of a class that has fewer.

    The same seed gives draws that contain each other: 5 of a class are among its 10.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == index)) for index in range(num_classes)]
    return np.concatenate([own[:shots] for own in rows]).astype(np.int64)


@dataclass(frozen=True)
class Ridge:
    """The solutions for every l2, on standardised features with the constant behind them: W(l2) =
    left (eigenvalues + l2)^-1 right.

    mean, std: (R,); left: (R + 1, r); eigenvalues: (r,); right: (r, K).
    """

    mean: Float64s
    std: Float64s
    left: Float64s
    eigenvalues: Float64s
    right: Float64s

    def weights(self, l2: float) -> Float64s:
        """(R + 1, K), the last row belonging to the constant."""
        return (self.left / (self.eigenvalues + l2)) @ self.right

    def scores(self, features: Features, l2: float) -> Float64s:
        """(n, K) of features (n, R)."""
        return self.expand(features) @ self.weights(l2)

    def expand(self, features: Features) -> Float64s:
        """Features (n, R) standardised, with the constant: (n, R + 1)."""
        standard = (features.astype(np.float64) - self.mean) / self.std
        return np.pad(standard, ((0, 0), (0, 1)), constant_values=BIAS)

    def accuracies(self, features: Features, labels: Labels, l2s: Sequence[float]) -> list[float]:
        """Share of the images whose best score is their label's, for each l2."""
        x = self.expand(features)
        return [float(((x @ self.weights(l2)).argmax(axis=1) == labels).mean()) for l2 in l2s]


def fit(features: Features, labels: Labels, num_classes: int) -> Ridge:
    """The ridge regression of targets 1 (own class) and -1 on features (n, R)."""
    x = features.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0) + EPS
    x = np.pad((x - mean) / std, ((0, 0), (0, 1)), constant_values=BIAS)  # (n, R + 1)
    y = 2.0 * np.eye(num_classes)[labels] - 1.0  # (n, K)
    if x.shape[0] >= x.shape[1]:
        eigenvalues, q = np.linalg.eigh(x.T @ x)  # (R + 1,), (R + 1, R + 1)
        left, right = q, q.T @ (x.T @ y)
    else:
        eigenvalues, q = np.linalg.eigh(x @ x.T)  # (n,), (n, n)
        left, right = x.T @ q, q.T @ y
    return Ridge(mean, std, left, np.maximum(eigenvalues, 0.0), right)

"""Few-shot ridge regression solved directly in float64: one linear system for each l2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ridge_scores(
    x_train: NDArray[Any], y_train: NDArray[Any], x_test: NDArray[Any], num_classes: int, l2: float
) -> NDArray[np.float64]:
    """Test scores (m, K): (X'X + l2 I) W = X'Y, whatever the shape of X."""
    mean = x_train.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(((x_train - mean) ** 2).mean(axis=0)) + 1e-5
    ones = np.full((len(x_train), 1), 100.0)
    x = np.hstack([(x_train - mean) / spread, ones])
    y = np.where(y_train[:, None] == np.arange(num_classes), 1.0, -1.0)
    w = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)
    tested = np.hstack([(x_test - mean) / spread, np.full((len(x_test), 1), 100.0)])
    return np.asarray(tested @ w, dtype=np.float64)

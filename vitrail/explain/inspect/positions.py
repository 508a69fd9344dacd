"""Similarity of position embeddings (Figures 7, centre, and 10 of arXiv 2010.11929), and its order.

For every patch the cosine similarity of its embedding to those of all patches; rows of prefix
tokens are left out. Rotary embeddings are no vectors that are added: the similarity is the mean
cosine of the angles between two places, which is what they do to a product of equal vectors.
Relative embeddings belong to pairs, and none to nothing: both have no such figure.

Structure: the share of the variance of all similarities between different patches that their
distance explains, as the mean for each distance does: once for the two-dimensional distance (rows
apart, columns apart), once for the one-dimensional |i - j| in reading order. Both have about as
many different distances as there are patches. A table that knows the plane has the first near 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.models.create import Model, ResidualNet
from vitrail.models.vit.fields import ADDED
from vitrail.models.vit.model import ViT
from vitrail.models.vit.posemb import added

Floats = NDArray[np.float64]


def why_none(model: Model) -> str | None:
    """Why a model has no such figure, or None."""
    if isinstance(model, ResidualNet):
        return "a residual network has no position embedding"
    kind = model.config.posemb
    if kind == "none":
        return "the model has no position embedding"
    return "relative position embeddings belong to pairs" if kind == "relative" else None


def position_table(model: ViT) -> Floats:
    """One row a patch, (P, D), in reading order; of several tables the one behind the stem."""
    with torch.no_grad():
        if model.config.posemb in ADDED:
            table = added(model.config, model)[1][0]
        else:
            table = torch.cat([model.rope[0], model.rope[1]], dim=-1)  # cosines and sines
        found: Floats = table.double().cpu().numpy()
    return found


def similarities(table: Floats) -> Floats:
    """Cosines of the rows, (P, P)."""
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit = table / np.where(lengths > 0, lengths, 1)
    found: Floats = unit @ unit.T
    return found


def structure(cosines: Floats, grid: tuple[int, int]) -> dict[str, float]:
    """explained_2d and explained_1d, shares of the variance of (P, P); NaN where there is none."""
    h, w = grid
    y, x = np.divmod(np.arange(h * w), w)
    apart = ~np.eye(h * w, dtype=bool)
    rows, columns = np.abs(y[:, None] - y), np.abs(x[:, None] - x)
    line = np.abs(np.arange(h * w)[:, None] - np.arange(h * w))
    return {
        "explained_2d": _explained(cosines[apart], (rows * w + columns)[apart]),
        "explained_1d": _explained(cosines[apart], line[apart]),
    }


def _explained(values: Floats, groups: NDArray[np.int64]) -> float:
    """Share of the variance of values (n,) between the means of groups (n,)."""
    if not len(values) or values.var() == 0:
        return float("nan")
    counts = np.bincount(groups)
    means = np.bincount(groups, values) / np.maximum(counts, 1)
    return float(means[groups].var() / values.var())

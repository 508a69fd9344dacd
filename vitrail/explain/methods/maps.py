"""What is asked of an explanation, and what a method gives: records without images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]  # float32 or float64, as the model computes
Layer = int | str
Scores = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Request:
    """Options of one explanation. None: what the method's own page says (docs/explain.md).

    method: a name of `methods.METHODS`; empty for the model's own default. layer: a block from 0,
    negative ones from the last, or a name of feature maps; head: one head, None for the mean;
    target: class index, None for the model's first choice; token: (row, column) of the patch whose
    own row is shown instead of the output's; steps: of integrated gradients; seed: of random;
    scores: how logits become probabilities.
    """

    method: str = ""
    layer: Layer | None = None
    head: int | None = None
    target: int | None = None
    token: tuple[int, int] | None = None
    steps: int | None = None
    seed: int | None = None
    scores: Scores = "softmax"


@dataclass(frozen=True, eq=False)
class Maps:
    """grid: (h, w) by patch or cell, or (H, W) by pixel of the model's input. layers: grids (h, w)
    by layer, where the method has them. matrix: (P, P), what each patch takes from each patch.
    groups: (h, w), the number of the token that each patch is part of, where tokens are merged.
    logits: (K,), empty without a head. facts: settings as resolved, and measures.
    """

    grid: Array
    logits: Array
    layers: Mapping[Layer, Array] = field(default_factory=dict)
    matrix: Array | None = None
    target: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    groups: Array | None = None


def array(values: Tensor) -> Array:
    """In memory, with the precision it was computed in, float32 at least."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()


def best(logits: Tensor, target: int | None) -> int:
    """The class that is explained: `target`, or the first choice. logits: (1, K)."""
    return int(logits[0].argmax()) if target is None else target


def log_scores(logits: Tensor, scores: Scores) -> Tensor:
    """Logarithms of the probabilities (B, K)."""
    if scores == "sigmoid":
        return torch.nn.functional.logsigmoid(logits)
    return logits.log_softmax(dim=1)


def cell_edges(size_px: int, count: int) -> list[int]:
    """Where `count` cells of an axis of `size_px` begin and end, count + 1 pixels."""
    return [int(edge) for edge in np.linspace(0, size_px, count + 1).round()]

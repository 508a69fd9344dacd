"""Whether images to calibrate with are like those that a model will see: by its own features.

Ranges of activations do not tell: noise has those of photographs within a tenth on some models.
The features that enter the head do. In units of their deviation, the mean of each channel differs
between two sets of n real images by about sqrt(2 / n); from noise by 0.6 to 2.4
(docs/decisions.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.errors import GateError
from vitrail.export.check_images import CheckImages
from vitrail.export.graph import Graph
from vitrail.runtime.torch_runtime import FeatureModel

FIXED, SAMPLED = 0.25, 1.6  # limit: 0.25 + 1.6 / sqrt(n)
TINY = 1e-12
Features = NDArray[np.float64]


def require_alike(graph: Graph, ours: CheckImages, held_out: CheckImages) -> None:
    """Raise GateError VIT-704 where the images `ours` to calibrate with are of another kind."""
    count = min(len(ours), len(held_out))
    sets = (one.at(one.spread(count)) for one in (ours, held_out))
    found = shift(*(features(graph, one.batches()) for one in sets))
    limit = FIXED + SAMPLED / math.sqrt(count)
    if not found <= limit:
        raise GateError(
            "VIT-704",
            f"the calibration images ({ours.data} {ours.split}) are unlike those that int8 is "
            f"checked with ({held_out.data} {held_out.split}): the model's features differ by "
            f"{found:.2f} of their deviation, limit {limit:.2f}. Nothing is written.",
            hint="Calibrate with images that the model will see: --images DATA with a train split",
            details={"shift": found, "limit": limit},
        )


def features(graph: Graph, batches: Iterable[NDArray[np.float32]]) -> Features:
    """What enters the head (n, R), of pixels (B, C, H, W)."""
    model = cast(FeatureModel, graph.model)
    with torch.inference_mode():
        found = [
            model.features((torch.from_numpy(one) / 255 - graph.mean) / graph.std)
            for one in batches
        ]
    return torch.cat(found).flatten(1).double().numpy()


def shift(a: Features, b: Features) -> float:
    """Between the means of channels, in deviations: the root of the mean square. Both (n, R)."""
    deviation = np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2) + TINY
    return float(np.sqrt((((a.mean(axis=0) - b.mean(axis=0)) / deviation) ** 2).mean()))

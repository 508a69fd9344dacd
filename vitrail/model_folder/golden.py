"""What torch answered to one image when a model was exported: found again before it is served.

A broken engine, other weights, or a processor on which int8 overflows answers otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.preprocess import Preprocess
from vitrail.model_folder.export_record import ExportRecord

KEPT = 100  # classes, the most probable
EXACT = 1e-4  # between probabilities in float32; engines differ by about 1e-6
LOOSE = 0.1  # in other precisions, where the export has no limit of its own


def fixed_image(preprocess: Preprocess) -> NDArray[np.float32]:
    """(C, H, W) as a model is shown it: colours that change smoothly, and fine detail."""
    height, width = preprocess.height, preprocess.width
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [128 + 60 * np.sin(x / (5 + c)) + 60 * np.cos(y / (7 + 2 * c)) for c in range(3)]
    pixels = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    found: NDArray[np.float32] = preprocess.floats(pixels)
    return found


def golden_of(p: NDArray[np.float32]) -> dict[str, float]:
    """The probabilities (K,) of the fixed image that are kept, by index."""
    best = np.argsort(-p, kind="stable")[:KEPT]
    return {str(index): float(p[index]) for index in best}


def distance(golden: Mapping[str, float], p: NDArray[np.float32]) -> float:
    """The largest difference of p (K,) to what was kept; infinite for other classes."""
    if any(int(index) >= len(p) for index in golden):
        return float("inf")
    return max((abs(float(p[int(index)]) - value) for index, value in golden.items()), default=0.0)


def tolerance(about: ExportRecord, engine: str, precision: str) -> float:
    """How far an engine may be from the golden probabilities."""
    if precision == "float32":
        return EXACT
    limits = [
        one.limits.get("max_dp")
        for one in about.checked
        if (one.engine, one.precision) == (engine, precision)
    ]
    found = next((float(one) for one in limits if isinstance(one, int | float)), LOOSE)
    return max(found, EXACT)

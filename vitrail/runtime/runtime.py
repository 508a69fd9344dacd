"""A model as a call: normalised images in, logits out.

Evaluation, robustness, probes and prediction know a model only so. Nothing here imports torch: an
engine that needs none runs where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any  # float32, of numpy or of the engine
Logits = Callable[[Array], Array]  # images (B, C, H, W) -> (B, K)


@dataclass(frozen=True)
class RuntimeInfo:
    """What computes, and how. precision: "float32" or "bfloat16"; input_size: channels, height and
    width in px; best_batch: images at a time that are computed fastest.
    """

    engine: str
    precision: str
    device: str
    threads: int
    input_size: tuple[int, int, int]
    best_batch: int


class Runtime(Protocol):
    """A model on an engine.

    identity: hex digits that change with the architecture and with any number of the weights.
    """

    @property
    def info(self) -> RuntimeInfo: ...
    @property
    def identity(self) -> str: ...
    def logits(self, images: Array) -> Array: ...


class FeatureRuntime(Runtime, Protocol):
    """A model whose features can be had too: what enters its head. (B, R)"""

    def features(self, images: Array) -> Array: ...


def as_numpy(values: Array) -> NDArray[Any]:
    """The same numbers as an array of numpy, wherever they are."""
    return values if isinstance(values, np.ndarray) else np.asarray(values.cpu().numpy())


def flip_averaged(logits: Logits) -> Logits:
    """The mean of the logits of an image and of its mirror image: the geometric mean of the two
    predictions. Twice the computation; wrong for classes that differ by handedness.
    """

    def both(images: Array) -> Array:
        if isinstance(images, np.ndarray):  # torch takes no array that is read backwards
            mirrored: Array = np.ascontiguousarray(np.flip(images, -1))
        else:
            mirrored = images.flip(-1)
        return (logits(images) + logits(mirrored)) / 2

    return both

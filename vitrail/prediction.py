"""From the logits of a model to answers for people: probabilities, and the best classes by name.

No torch: whatever computes the logits, these are the same few lines.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vitrail.notebook import Shown
from vitrail.runtime.runtime import Array

Picture = str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]
Prepared = NDArray[np.float32] | str  # what a model is shown (C, H, W), or what is wrong
Scores = Literal["softmax", "sigmoid"]
NOT_FINITE = "the model gives outputs that are not finite for this image (VIT-442)"


@dataclass(frozen=True)
class Score:
    """A class and its probability; unpacks as (label, score)."""

    label: str
    score: float

    def __iter__(self) -> Iterator[Any]:
        return iter((self.label, self.score))


@dataclass(frozen=True)
class Prediction(Shown):
    """What the model says of one image, or in `error` why it cannot say anything."""

    source: str
    label: str | None = None
    score: float | None = None
    top: list[Score] = field(default_factory=list)
    error: str | None = None

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people: the image, then its best classes, or what is wrong."""
        best = [(one.label, f"{one.score:.4f}") for one in self.top]
        return [("image", self.source), *([("error", self.error)] if self.error else best)]


def probabilities_of(logits: Array, temperature: float, scores: Scores) -> NDArray[np.float32]:
    """(B, K) of logits (B, K) divided by the temperature: an array, or a tensor of torch, which
    rounds in its own way. A row whose logits are not all finite is NaN: it is no answer
    (`NOT_FINITE`), whatever single numbers would come of it.
    """
    if not isinstance(logits, np.ndarray):
        scaled = logits.float() / temperature
        p = scaled.sigmoid() if scores == "sigmoid" else scaled.softmax(dim=1)
        is_broken = ~scaled.isfinite().all(dim=1, keepdim=True)  # on the device: read once
        return np.array(p.masked_fill(is_broken, math.nan).cpu().numpy(), dtype=np.float32)
    z = logits.astype(np.float64) / temperature
    with np.errstate(invalid="ignore"):
        sigmoid = scores == "sigmoid"
        norm = np.logaddexp(0, z) if sigmoid else np.logaddexp.reduce(z, 1, keepdims=True)
        found = np.exp(z - norm).astype(np.float32)
    found[~np.isfinite(z).all(axis=1)] = np.nan
    return found


def is_answer(p: NDArray[np.float32]) -> bool:
    """Whether probabilities (K,) are finite, so that a class may be named."""
    return bool(np.isfinite(p).all())


def best_of(p: NDArray[np.float32], classes: Sequence[str], top: int) -> list[Score]:
    """The `top` best classes of probabilities (K,), of equal ones the earlier first."""
    order = np.argsort(-p, kind="stable")[:top]
    return [Score(classes[i] if classes else str(i), float(p[i])) for i in order]


def name_of(index: int, picture: Picture) -> str:
    """What an image is called in answers."""
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else f"input-{index}"


def as_inputs(inputs: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """One image alone is a list of one."""
    if isinstance(inputs, str | os.PathLike | bytes | Image):
        return [inputs]
    if isinstance(inputs, np.ndarray) and inputs.ndim < 4:
        return [inputs]
    return inputs

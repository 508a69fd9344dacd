"""What every loader yields, and the one step from its 8-bit pixels to what a model sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from vitrail.data.images.preprocess import Preprocess

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """Images of one step: `images` (B, C, H, W) uint8, `labels` int64 (B,) or float32 (B, K),
    `indices` int64 (B,). Evaluation with a preprocessing that keeps floats has float32 images;
    with one of variable resolution packed patches (B, L, F), which are normalised already.
    Arrays of numpy do as well where they are only evaluated.

    A piece of a step (`Slots`) says which row of the step its own first one is, and whether the row
    before that stands in front of it, to be mixed with and then left out.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    first: int = 0
    has_before: bool = False

    @property
    def own(self) -> slice:
        """The rows that count."""
        return slice(int(self.has_before), None)


def pixels_of(batch: Batch, preprocess: Preprocess) -> list[NDArray[np.uint8]]:
    """The images of a training batch, uint8 (H, W, C), each of its own shape where it has one."""
    values = np.asarray(batch.images.cpu())
    if preprocess.is_variable:
        return [preprocess.unpacked(rows) for rows in values]
    return [*np.ascontiguousarray(values.transpose(0, 2, 3, 1))]


@overload
def normalise(images: torch.Tensor, preprocess: Preprocess) -> torch.Tensor: ...
@overload
def normalise(images: NDArray[Any], preprocess: Preprocess) -> NDArray[np.float32]: ...
def normalise(
    images: torch.Tensor | NDArray[Any], preprocess: Preprocess
) -> torch.Tensor | NDArray[np.float32]:
    """Float32 (B, C, H, W), contiguous, of values (B, C, H, W) in 0..255, on their device: (x / 255
    - mean) / std.

    The same operations in the same order as `Preprocess.normalised`, so both give the same bits.
    Packed patches stay as they are.
    """
    if preprocess.is_variable:
        return images
    if isinstance(images, np.ndarray):
        return preprocess.normalised(images)
    import torch

    from vitrail.device import sent

    floats = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(255)
    mean, std = (
        sent(torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), images.device)
        for values in (preprocess.mean, preprocess.std)
    )
    return floats.sub_(mean).div_(std)

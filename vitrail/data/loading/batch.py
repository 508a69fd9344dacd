"""What every loader yields, and the one step from its 8-bit pixels to what a model sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vitrail.data.images.preprocess import Preprocess


@dataclass(frozen=True)
class Batch:
    """Pictures of one step: `images` (B, C, H, W) uint8, `labels` int64 (B,) or float32 (B, K),
    `indices` int64 (B,). Evaluation with a preprocessing that keeps floats has float32 images.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


def normalise(images: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Float32 (B, C, H, W), contiguous, of values (B, C, H, W) in 0..255, on their device: (x / 255
    - mean) / std.

    The same operations in the same order as `Preprocess.__call__`, so both give the same bits.
    """
    floats = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(255)
    mean, std = (
        torch.tensor(values, dtype=torch.float32).view(-1, 1, 1).to(images.device)
        for values in (preprocess.mean, preprocess.std)
    )
    return floats.sub_(mean).div_(std)

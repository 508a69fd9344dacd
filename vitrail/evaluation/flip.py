"""Test-time flip: a picture and its mirror image are one prediction."""

from __future__ import annotations

from torch import Tensor, nn


class FlipAverage(nn.Module):
    """The mean of the logits of an image and of its mirror image: the geometric mean of the two
    predictions. Twice the computation; wrong for classes that differ by handedness.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of normalised images (B, C, H, W)."""
        logits: Tensor = self.model(images) + self.model(images.flip(-1))
        return logits / 2

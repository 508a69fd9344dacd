"""What residual networks share: a map that is pooled, features, and the head above them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from torch import Tensor, nn

from vitrail.models.layers.matmul import linear
from vitrail.models.layers.tap import (
    ResidualStages,
    Tap,
    TapDict,
    check_images,
    residual_tap_names,
)


class ResidualConfig(ResidualStages, Protocol):
    """Of an architecture record: `BiTConfig` or `ResNetConfig`."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    @property
    def channels(self) -> int:
        """Of the images."""

    @property
    def num_features(self) -> int:
        """Channels that enter the head."""


class Head(nn.Module):
    """A dense layer with the weight of a 1x1 convolution, (K, C, 1, 1), as files have it."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(num_features, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, C). Returns (B, K)."""
        return linear(features, self.fc.weight.flatten(1), self.fc.bias)


class PooledNet(nn.Module):
    """Images to logits by way of a map, in `map_of`, that is averaged.

    With the attribute `checkpoint_activations` set to True, training keeps only the input of each
    unit and computes the unit again in the backward pass; values and gradients are the same.
    """

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.checkpoint_activations = False
        self._record = config

    @abstractmethod
    def map_of(self, images: Tensor, tap: Tap | None, *, is_checkpointed: bool) -> Tensor:
        """images: (B, C, H, W). Returns the last map, (B, num_features, h, w); taps the others."""

    def pooled(self, last: Tensor) -> Tensor:
        """last: the map, (B, num_features, h, w). Returns (B, num_features)."""
        return last.mean(dim=(2, 3))

    def forward(self, images: Tensor, *, tap: TapDict | None = None) -> Tensor:
        """images: (B, C, H, W) float, normalised. Returns logits (B, K).

        Without a head (num_classes=0): features, (B, num_features).
        tap: see `tap.py`; a dict that receives intermediates by name.
        Raises UsageError: VIT-224 other image shape, VIT-223 unknown name in tap.
        """
        reader = None if tap is None else Tap(tap, residual_tap_names(self._record))
        features = self._features(images, reader)
        if not self._record.num_classes:
            return features
        logits: Tensor = self.get_submodule("head")(features)  # (B, K)
        if reader is not None:
            reader.write("logits", logits)
        return logits

    def features(self, images: Tensor, *, tap: TapDict | None = None) -> Tensor:
        """What enters the head, (B, num_features)."""
        reader = None if tap is None else Tap(tap, residual_tap_names(self._record))
        return self._features(images, reader)

    def _features(self, images: Tensor, tap: Tap | None) -> Tensor:
        check_images(images, (self._record.channels, *self._record.image_size))
        is_checkpointed = self.checkpoint_activations and self.training and tap is None
        last = self.map_of(images, tap, is_checkpointed=is_checkpointed)
        pooled = self.pooled(last)
        if tap is not None:
            tap.write("feature_map", last)
            tap.write("pre_logits", pooled)
        return pooled

"""What an adaptation was asked for, as the functions that make it see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.checkpoints.mapping.rules import Shape
from vitrail.models.create import Model, build
from vitrail.models.init import initial_value
from vitrail.models.names import ModelConfig

State = dict[str, Tensor]


@dataclass(frozen=True)
class AdaptRequest:
    """From which configuration to which. shapes: of every tensor of the target; resample: a rule
    of `posemb_resize.RULES`; classes, target_classes: names of the heads' rows, or none.
    """

    config: ModelConfig
    target: ModelConfig
    shapes: Mapping[str, Shape]
    resample: str
    classes: tuple[str, ...] = ()
    target_classes: tuple[str, ...] = ()
    seed: int = 0

    def fresh(self, name: str) -> Tensor:
        """The value that a new model of the target starts with."""
        return initial_value(name, torch.Size(self.shapes[name]), self.target, self.seed)


def shapes_of(config: ModelConfig) -> dict[str, Shape]:
    """Of every tensor in the state dict of a model of this configuration."""
    return tensor_shapes(build(config))


def tensor_shapes(model: Model) -> dict[str, Shape]:
    """Of every tensor in the model's state dict."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}

"""Tiny models with random tensors, for tests of what adaptation keeps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.adapt.request import State, shapes_of
from vitrail.models.create import build
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig

VIT: dict[str, Any] = {
    "image_size": (10, 9),
    "patch_size": (5, 3),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 11,
    "num_classes": 7,
}
PETS = ("ape", "bee", "cat", "dog", "eel", "fox", "gnu")


def vit(**fields: Any) -> ViTConfig:
    return ViTConfig(**(VIT | fields))


def values(config: ModelConfig, seed: int = 0) -> State:
    """Random tensors for every name: zeros and ones would hide what is lost. Variances above 0."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(shape, generator=generator) for name, shape in shapes_of(config).items()
    }
    return {
        name: value.square() + 0.1 if name.endswith("running_var") else value
        for name, value in drawn.items()
    }


def run(config: ModelConfig, state: State, images: Tensor) -> Tensor:
    model = build(config)
    model.load_state_dict(state, strict=True, assign=True)
    with torch.no_grad():
        logits: Tensor = model.eval()(images)
    return logits


def pictures(config: ModelConfig, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, config.channels, *config.image_size, generator=generator)

"""Small models of every kind that reads its output in its own way; every parameter is random."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.models.check_model import random_images, random_model
from vitrail.models.bit.config import BiTConfig
from vitrail.models.bit.model import BiTResNet
from vitrail.models.create import Model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.resnet.model import ResNet
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

BASE: dict[str, Any] = {
    "image_size": (10, 21),
    "patch_size": (5, 7),
    "channels": 2,
    "width": 12,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 11,
    "num_classes": 5,
}
KINDS: dict[str, dict[str, Any]] = {
    "cls": {},
    "registers": {"num_registers": 2},
    "gap": {"pool": "gap"},
    "gap_norm_after": {"pool": "gap", "norm_after_pool": True, "cls_token": True},
    "cls_gap": {"pool": "cls_gap", "num_registers": 1},
    "map": {"pool": "map", "num_registers": 2},
    "map_patches": {"pool": "map", "num_registers": 2, "map_prefix": False, "map_heads": 2},
    "seq": {
        "pool": "seq",
        "stem": "conv",
        "stem_convs": 2,
        "stem_width": 5,
        "image_size": (10, 7),
        "patch_size": (1, 1),
    },
    "distilled": {"distillation_token": True},
    "tanh": {"pool": "gap", "representation_size": 7},
    "every": {"posemb_at": "every", "num_registers": 1},
    "shared": {"posemb": "learned_2d", "posemb_at": "shared", "posemb_prefix": False},
    "relative": {"posemb": "relative", "posemb_prefix": False},
    "rope": {"posemb": "rope_2d", "posemb_prefix": False},
    "learned_rope": {
        "posemb": "learned_rope_2d",
        "rope": "index",
        "rope_start": 1.0,
        "rope_grid": (5, 4),
    },
    "hybrid": {
        "stem": "resnet",
        "stem_width": 32,
        "stem_stages": (1, 1),
        "stem_root": "small",
        "image_size": (4, 5),
        "patch_size": (1, 1),
    },
    "residual": {
        "stem": "residual",
        "stem_width": 5,
        "stem_widths": (6,),
        "stem_strides": (2,),
        "stem_depths": (1,),
        "image_size": (9, 7),
        "patch_size": (1, 1),
    },
}
BIT = BiTConfig(
    image_size=(19, 13), channels=2, depths=(1, 1), width_factor=0.5, stem="small", num_classes=5
)
RESNET = ResNetConfig(
    image_size=(19, 13), channels=2, stem_width=5, widths=(6, 7), pool="mean", num_classes=5
)


def vit(kind: str, dtype: torch.dtype = torch.float64, **fields: Any) -> ViT:
    """A model of that kind."""
    return random_model(ViTConfig(**(BASE | KINDS[kind] | fields)), dtype=dtype)


def bit(dtype: torch.dtype = torch.float64, channels: int = 2) -> BiTResNet:
    """A convolutional one."""
    return random_model(BIT.model_copy(update={"channels": channels}), dtype=dtype)


def resnet(dtype: torch.dtype = torch.float64, **fields: Any) -> ResNet:
    """One for small images, with BatchNorm."""
    return random_model(ResNetConfig(**(RESNET.model_dump() | fields)), dtype=dtype)


def picture(model: Model, seed: int = 1) -> Tensor:
    """One preprocessed image, (1, C, H, W), in the model's precision."""
    return random_images(model.config, 1, seed=seed).to(next(model.parameters()).dtype)

"""The paper's three families at two scales: small enough for two cores, and the paper's own.

Small: a ViT of width 96 in patches of about 1/8 of the side, a hybrid of residual stages and two
blocks, and a residual network, the best size of it for seconds of training (docs/budgets.md): 16,
29 and 9 million multiply-adds on 28 px. Beside them a BiT-ResNet of three bottlenecks (65 million),
which is the paper's in style, and at this scale a weak opponent (docs/decisions.md).
Full: ViT-B/32, BiT-R50x1 and R50+ViT-B/32 (arXiv 2010.11929, Table 6). No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.models import cost
from vitrail.models.names import resolve_model
from vitrail.studies.setup import Setup
from vitrail.training.plan.auto import NARROW, patch_size

Settings = dict[str, Any]
VIT, RESNET, BIT, HYBRID = "ViT", "ResNet", "BiT-ResNet", "Hybrid"
ROOT_SIDE = 40  # px; residual networks look at larger images with a root of stride 4
# Of BiT, by validation on Fashion-MNIST at the compute of 40,000 images through the small ViT
# (docs/studies/README.md); the others have that of their recipe.
SGD_SETTINGS: Settings = {
    "optim.name": "sgd",
    "optim.momentum": 0.9,
    "optim.weight_decay": 1e-3,
    "schedule.name": "cosine",
    "schedule.warmup": 0.05,
}
BIT_SETTINGS: Settings = {**SGD_SETTINGS, "optim.lr": 0.3}


def families(setup: Setup) -> dict[str, Settings]:
    """The settings of each family, by arm; the ViT, which is the reference, first."""
    if setup.is_full:
        return {
            VIT: {"model.name": "vit_b32"},
            BIT: {"model.name": "bit_r50x1"},
            HYBRID: {"model.name": "r50_vit_b32"},
        }
    size = setup.image_size
    root = "small" if max(size) <= ROOT_SIDE else "imagenet"
    return {
        VIT: small_vit(size),
        RESNET: {"model.name": "resnet_ti"},
        BIT: {
            "model.name": "bit_r26x0.5",
            "model.depths": (1, 1, 1),
            "model.stem": root,
            **BIT_SETTINGS,
        },
        HYBRID: {"model.name": "vitr_ti"},
    }


def small_vit(size: tuple[int, int]) -> Settings:
    """The small ViT for images of `size`."""
    return {"model.name": f"vit_ti{patch_size(size)}", **_blocks(NARROW.depth)}


def one_vit(setup: Setup) -> Settings:
    """The ViT of the studies that have no other model: small, or the paper's ViT-B/16."""
    return {"model.name": "vit_b16"} if setup.is_full else small_vit(setup.image_size)


def _blocks(depth: int) -> Settings:
    return {
        "model.width": NARROW.width,
        "model.depth": depth,
        "model.num_heads": NARROW.num_heads,
        "model.mlp_dim": NARROW.mlp_dim,
        "model.posemb": "sincos_2d",
        "model.pool": "gap",
    }


def macs(settings: Mapping[str, Any], setup: Setup) -> int:
    """Multiply-adds of an image's forward pass."""
    fields = {
        key.removeprefix("model."): value
        for key, value in settings.items()
        if key.startswith("model.") and key != "model.name"
    }
    config = resolve_model(
        str(settings["model.name"]),
        num_classes=setup.num_classes,
        image_size=settings.get("data.image_size", setup.image_size),
        channels=setup.facts.channels,
        overrides=fields,
    )
    return cost.macs(config)

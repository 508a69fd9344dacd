"""What is searched: the sizes of every family, and the recipes, which all share."""

from __future__ import annotations

from typing import Any

from vitrail.models.resnet.names import RESNETS
from vitrail.training.plan.auto import patch_size

Settings = dict[str, Any]

ENCODER: Settings = {"model.pool": "gap", "model.posemb": "sincos_2d"}
# What every candidate has.
COMMON: Settings = {
    "loss.label_smoothing": 0.1,
    "schedule.name": "linear",
    "schedule.warmup": 0.15,
    "ema": 0.0,
}
# Optimiser, peak rate and weight decay of each recipe that every family tries.
RECIPES: tuple[tuple[str, float, float], ...] = (
    ("adamw", 2e-3, 0.05),
    ("adamw", 4e-3, 0.3),
    ("muon", 5e-3, 0.3),
    ("muon", 1e-2, 0.1),
    ("muon", 2e-2, 0.3),
    ("sgd", 0.3, 1e-3),
)
LARGE_DATA = 20_000  # images; from there on in batches of 128, else 64


def sizes(family: str, side: int) -> list[Settings]:
    """The architectures of a family for square images of `side` px, from small to large."""
    if family == "vit":
        patch = patch_size((side, side))
        return [
            {"model.name": f"vit_ti{patch}", **ENCODER, **_blocks(width, depth)}
            for width, depth in ((96, 4), (128, 6), (192, 9))
        ]
    if family == "conv_stem":
        return [{"model.name": name} for name in ("vitc_ti", "vitc_s", "cct_2_3x2")]
    if family == "hybrid":
        return [{"model.name": name} for name in ("vitr_ti", "vitr_s")]
    return [{"model.name": name} for name in RESNETS]


FAMILIES = ("vit", "conv_stem", "hybrid", "residual")


def recipe(number: int, side: int, num_images: int) -> Settings:
    """The recipe with this number, the same for every family."""
    name, lr, decay = RECIPES[number]
    settings = COMMON | {"optim.name": name, "optim.lr": lr, "optim.weight_decay": decay}
    settings |= {"optim.momentum": 0.95} if name == "muon" else {}
    settings["batch_size"] = 128 if num_images >= LARGE_DATA else 64
    return settings | {"augment.crop": "pad_crop", "augment.crop_pad": side // 12}


def _blocks(width: int, depth: int) -> Settings:
    return {
        "model.width": width,
        "model.depth": depth,
        "model.num_heads": width // 32,
        "model.mlp_dim": 2 * width,
    }

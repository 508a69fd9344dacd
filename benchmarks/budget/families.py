"""What is searched: the sizes of every family, and the choices of a recipe, which all share.

A recipe is drawn by a generator that is keyed by its number, so that a search can be repeated, and
gone on with.
"""

from __future__ import annotations

import random
from typing import Any

from vitrail.models.residual_names import RESNETS
from vitrail.training.choose import patch_size

Settings = dict[str, Any]

ENCODER: Settings = {"model.pool": "gap", "model.posemb": "sincos_2d"}
# What every candidate has.
COMMON: Settings = {
    "loss.label_smoothing": 0.1,
    "schedule.name": "linear",
    "schedule.warmup": 0.15,
    "ema": 0.0,
}
# Of a recipe, each drawn alone. The rate is in units of the optimiser's usual one.
USUAL_LR = {"adamw": 4e-3, "muon": 2e-2, "sgd": 0.3}
CHOICES: dict[str, list[Settings]] = {
    "optimiser": [
        {"optim.name": "adamw", "optim.weight_decay": 0.05},
        {"optim.name": "muon", "optim.momentum": 0.95, "optim.weight_decay": 0.05},
    ],
    "rate": [{"rate": rate} for rate in (0.25, 0.5, 1.0, 2.0)],
    "decay": [{"decay": factor} for factor in (1.0, 4.0, 12.0)],
    "batch": [{"batch_size": size} for size in (64, 128)],
    "shift": [
        {"augment.crop": "pad_crop", "augment.crop_pad": 2},
        {"augment.crop": "pad_crop", "augment.crop_pad": 4},
        {"augment.crop": "inception", "augment.crop_scale": (0.35, 1.0)},
    ],
}


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


def recipe(number: int) -> Settings:
    """The recipe with this number, the same for every family."""
    draw = random.Random(f"recipe {number}")
    settings = dict(COMMON)
    for choice in CHOICES.values():
        settings |= draw.choice(choice)
    rate, decay = settings.pop("rate"), settings.pop("decay")
    settings["optim.lr"] = rate * USUAL_LR[settings["optim.name"]]
    settings["optim.weight_decay"] = round(decay * settings["optim.weight_decay"], 6)
    return settings


def _blocks(width: int, depth: int) -> Settings:
    return {
        "model.width": width,
        "model.depth": depth,
        "model.num_heads": width // 32,
        "model.mlp_dim": 2 * width,
    }

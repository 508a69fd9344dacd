"""The recipes by name."""

from __future__ import annotations

from collections.abc import Callable

from vitrail.config import TrainConfig
from vitrail.errors import UsageError, nearest
from vitrail.recipes import deit, paper, plain, small

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "small.scratch": small.scratch,
    "paper.imagenet1k": paper.imagenet1k,
    "plain.vit_s16_i1k": plain.vit_s16_i1k,
    "deit": deit.deit,
    "deit3": deit.deit3,
}


def recipe(name: str) -> TrainConfig:
    """The settings of the recipe called `name`. Raises UsageError VIT-217 for an unknown one."""
    if name not in RECIPES:
        raise UsageError("VIT-217", f"unknown recipe {name}. {nearest(name, RECIPES)}")
    return RECIPES[name]()

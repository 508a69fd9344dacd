"""The recipes by name."""

from __future__ import annotations

from collections.abc import Callable

from vitrail.config import TrainConfig
from vitrail.errors import UsageError, nearest
from vitrail.recipes import bit_recipes, deit_recipes, paper, plain, small, transfer
from vitrail.recipes.image_facts import ImageFacts

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "small.residual": small.residual,
    "small.scratch": small.scratch,
    "paper.imagenet1k": paper.imagenet1k,
    "paper.imagenet21k": paper.imagenet21k,
    "paper.jft": paper.jft,
    "plain.vit_s16_i1k": plain.vit_s16_i1k,
    "deit": deit_recipes.deit,
    "deit3": deit_recipes.deit3,
    "transfer.head": transfer.head,
    "transfer.lora": transfer.lora,
}
# Those whose numbers follow from the images.
BY_IMAGES: dict[str, Callable[[ImageFacts], TrainConfig]] = {
    "paper.finetune": paper.finetune,
    "paper.masked_patches": paper.masked_patches,
    "bit.hyperrule": bit_recipes.hyperrule,
    "transfer.adamw": transfer.adamw,
}
# What a recipe is shown for where there are no images yet.
EXAMPLE = ImageFacts(50_000, (224, 224))


def recipe(name: str, images: ImageFacts = EXAMPLE) -> TrainConfig:
    """The settings of the recipe called `name`. Raises UsageError VIT-217 for an unknown one."""
    if name in BY_IMAGES:
        return BY_IMAGES[name](images)
    if name not in RECIPES:
        raise UsageError(
            "VIT-217", f"unknown recipe {name}. {nearest(name, [*RECIPES, *BY_IMAGES])}"
        )
    return RECIPES[name]()

"""How cells are trained, at both scales: from random values, and from another cell's weights.

Small: `small.scratch`, for residual networks `small.residual`, and `transfer.adamw`. The paper's:
the part of Table 3 for the data set that has about as many images, and Table 4 (arXiv
2010.11929). No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.models.names import parse_name
from vitrail.recipes.paper import BATCH, FINETUNE_BATCH, JFT_RATES, WARMUP
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Axis
from vitrail.studies.setup import Setup

Settings = dict[str, Any]
SMALL, SMALL_RESIDUAL, SMALL_TUNED = "small.scratch", "small.residual", "transfer.adamw"
# Up to how many training images a part of Table 3 is followed: ImageNet has 1.3 million,
# ImageNet-21k 14, JFT 303.
TABLE_3 = {"paper.imagenet1k": 4e6, "paper.imagenet21k": 6e7, "paper.jft": float("inf")}
LONGEST_WARMUP = 0.1  # share of a run, where 10,000 steps are more than that
FULL_TUNED_SHARE = 20_000 * FINETUNE_BATCH / (7 * 303e6)  # Table 4 for ImageNet; 7 epochs of JFT


def from_scratch(
    setup: Setup,
    arm: str,
    axes: Mapping[str, Axis],
    own: Mapping[str, Any],
    examples: float,
    seed: int,
    *,
    recipe: str = "",
    measures: tuple[str, ...] = (),
) -> Cell:
    """A cell that begins with random values and sees `examples` images.

    own: the model, and what else this cell has of its own. recipe: in place of that of the scale.
    """
    name = recipe or (full_recipe(setup.num_train) if setup.is_full else small_recipe(own))
    settings = {**setup.base(), **plain_training(setup), **own, "examples": max(1, int(examples))}
    if name in TABLE_3:
        settings = {**_table_3(name, settings), **settings}
    return Cell(arm, axes, settings, seed, name, measures=measures)


def small_recipe(own: Mapping[str, Any]) -> str:
    """The recipe of the family that a cell trains."""
    named = parse_name(str(own.get("model.name", "")))
    return SMALL_RESIDUAL if named is not None and named.family == "resnet" else SMALL


def from_weights(
    setup: Setup,
    arm: str,
    axes: Mapping[str, Axis],
    own: Mapping[str, Any],
    examples: float,
    start: Cell,
    *,
    on_transfer: bool = False,
    measures: tuple[str, ...] = (),
) -> Cell:
    """A cell that goes on from the weights of `start`, on the same images or on the other data.

    At the paper's scale after Table 4: 384 px, batches of 512.
    """
    settings = setup.base(on_transfer=on_transfer)
    if not on_transfer:
        settings |= plain_training(setup)
    if setup.is_full:
        settings |= {"data.image_size": setup.tuned_size, "batch_size": FINETUNE_BATCH}
    settings |= {**own, "examples": max(1, int(examples))}
    recipe = "paper.finetune" if setup.is_full else SMALL_TUNED
    return Cell(arm, axes, settings, start.seed, recipe, start, measures, on_transfer)


def tuned_share(setup: Setup, small: float) -> float:
    """Images seen in fine-tuning, of those seen before: `small`, at the paper's scale its own."""
    return FULL_TUNED_SHARE if setup.is_full else small


def full_recipe(num_train: int) -> str:
    """The part of Table 3 for about as many training images."""
    return next(name for name, most in TABLE_3.items() if num_train <= most)


def _table_3(name: str, settings: Mapping[str, Any]) -> Settings:
    """What a recipe cannot know: the rate of the model, and a warm-up that fits the run."""
    found: Settings = {}
    if name == "paper.jft" and settings["model.name"] in JFT_RATES:
        found["optim.lr"] = JFT_RATES[settings["model.name"]]
    if settings["examples"] * LONGEST_WARMUP < WARMUP * BATCH:
        found["schedule.warmup"] = LONGEST_WARMUP
    return found


def plain_training(setup: Setup) -> Settings:
    """What makes the cells of a study comparable: the same mild augmentation at every number of
    images, no average of weights (a short run would be judged by its beginning).
    """
    if setup.is_full:
        return {}
    side = min(setup.image_size)
    crop: Settings = {"augment.crop": "inception", "augment.crop_scale": (0.35, 1.0)}
    if not setup.facts.is_photos:
        crop = {"augment.crop": "pad_crop", "augment.crop_pad": max(1, side // 16)}
    return {**crop, "ema": 0.0}

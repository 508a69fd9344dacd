"""What "auto" means: one function a setting, each saying why.

Choices depend on the data and the machine's abilities, never on a stopwatch, so that the same
command on the same machine makes the same run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vitrail.config import TrainConfig
from vitrail.device import (
    memory_bytes,
    num_cores,
    num_threads,
    pick_device,
    pick_precision,
    processes_here,
)
from vitrail.errors import UsageError
from vitrail.models.cost import macs
from vitrail.models.layers.fields import as_numbers
from vitrail.models.names import CONFIGS, Named, parse_name, resolve_model
from vitrail.recipes.registry import recipe
from vitrail.setting_values import parse_size
from vitrail.spelling import count
from vitrail.training.plan.auto_model import (
    AUTO,
    AUTO_VIT,
    DIGITS_SIDE,
    RESIDUAL,
    RESNET,
    RESNETS,
    STEMMED,
    TINIEST,
    VIT,
    affordable_images,
    family_recipe,
    largest,
    vits,
)
from vitrail.training.plan.auto_start import (
    drop_ineffective,
    inherit_from,
    pictures_of,
    transfer_recipe,
)
from vitrail.training.plan.draft import Draft
from vitrail.training.plan.facts import QUERIES, SMALL_SIDE, Facts
from vitrail.training.plan.starting_model import Start

IMAGE_SIZES = (32, 48, 64, 96, 128, 160, 192, 224)
PATCH_STEPS = (1, 2, 4, 7, 8, 14, 16, 28, 32)  # px that sides of small images may be multiples of
SHIFT_SIDE = 24  # px; a shift moves smaller images too far
FEW_PASSES, MANY_PASSES = 10, 100
LARGE_DATA = 20_000  # training images; residual networks then take larger batches
MOST_WORKERS, WORKER_BYTES = 8, 300_000_000  # of memory that a process may need for itself
# Rate, momentum and decay of the optimisers that the recipes for small images do not take.
USUAL: dict[str, dict[str, float]] = {
    "adamw": {"optim.lr": 3e-3, "optim.weight_decay": 0.05},
    "lamb": {"optim.lr": 3e-3, "optim.weight_decay": 0.05},
    "sgd": {"optim.lr": 0.3, "optim.weight_decay": 1e-3, "optim.momentum": 0.9},
}
MIRROR_LOSS = 0.1  # share of nearest-neighbour accuracy that a flip may cost, beyond its noise


class Shape(NamedTuple):
    """A ViT smaller than the named sizes."""

    width: int
    depth: int
    num_heads: int
    mlp_dim: int


# Five minutes of one core on Fashion-MNIST: the narrow one sees the images twice as often
# and ends above the wider one (docs/decisions.md).
NARROW = Shape(width=96, depth=4, num_heads=3, mlp_dim=192)
WIDER = Shape(width=128, depth=6, num_heads=4, mlp_dim=256)


def choose(
    asked: TrainConfig,
    sources: Mapping[str, str],
    facts: Facts,
    start: Start | None,
    *,
    multi_label: bool,
    world: int = 1,
) -> Draft:
    """The settings of a run, chosen for its data, this machine and the model that it starts from.

    asked, sources: what a user asked for, as `resolve` gives it; world: processes that train it.
    Raises UsageError VIT-217 for an unknown recipe, VIT-245 and VIT-254 beside --from.
    """
    name, why = recipe_name(asked, facts, start)
    draft = Draft.of(name, recipe(name, pictures_of(facts, start)), asked, sources)
    draft.set("recipe", name, why)
    if start is not None:
        inherit_from(draft, start)
    resolve_auto(draft, facts, multi_label=multi_label)
    share_parts(draft, world)
    drop_ineffective(draft, start)
    return draft


def recipe_name(config: TrainConfig, facts: Facts, start: Start | None) -> tuple[str, str]:
    """The recipe of a run, and why. config: what a user asked for."""
    if config.recipe != "auto":
        return config.recipe, "asked for"
    if config.objective == "masked_patches":
        return "paper.masked_patches", "the objective is asked for"
    if start is not None:
        return transfer_recipe(config, facts, start)
    is_large = facts.num_train >= 200_000 and min(facts.size) >= 128
    if is_large and pick_device(config.device).type == "cuda":
        return "plain.vit_s16_i1k", f"{count(facts.num_train, 'large image')} and a GPU"
    return family_recipe(config, facts)


def resolve_auto(draft: Draft, facts: Facts, *, multi_label: bool) -> None:
    """Replace every "auto"."""
    learns_labels = draft.values["objective"] == "classify"
    if multi_label and learns_labels and draft.is_free("loss.name"):
        draft.set("loss.name", "sigmoid", "an image may have several labels")
    _patches(draft)
    _aspect(draft)
    _channels(draft, facts)
    _image_size(draft, facts)
    _rate(draft)
    _batch_size(draft, facts)
    _model(draft, facts)
    _family(draft)
    _crop(draft, facts)
    _flip(draft, facts)
    _length(draft)
    _machine(draft, facts)


def _patches(draft: Draft) -> None:
    """Patches of several sizes share one learned table; the middle one is the model's own."""
    asked = as_numbers(draft.fields().get("patch_sizes"))
    found = [parse_size(one) for one in asked] if isinstance(asked, tuple | list) else []
    sizes = [(one[0], one[-1]) for one in found if isinstance(one, tuple | list)]
    if not sizes:
        return  # none, or what the configuration refuses
    if draft.is_free("model.posemb"):
        draft.set("model.posemb", "learned", "patches of several sizes share a table")
    if draft.is_free("model.patch_size") and draft.start is None:
        middle = sorted(sizes)[len(sizes) // 2]
        draft.set("model.patch_size", middle, "the middle one of model.patch_sizes")


def _aspect(draft: Draft) -> None:
    """Images that keep their aspect ratio have no common grid, crop or mixture: what a recipe says
    of these gives way.
    """
    if draft.fields().get("max_patches") is None:
        return
    why = "images keep their aspect ratio (model.max_patches)"
    plain: dict[str, Any] = {"data.crop_fraction": 1.0, "augment.mixup": 0.0, "augment.cutmix": 0.0}
    if draft.start is None:
        plain |= {"model.posemb": "learned", "data.resize": "squash"}
    for key, value in plain.items():
        if draft.is_free(key) and draft.values.get(key) != value:
            draft.set(key, value, why)


def _channels(draft: Draft, facts: Facts) -> None:
    if draft.is_auto("data.channels"):
        gray, looked = facts.channels == 1, facts.decoded
        which = f"all {count(looked, 'image')} sampled are" if looked else "every image is"
        draft.set(
            "data.channels",
            facts.channels,
            f"{which} gray" if gray else "images have colours",
        )


def _image_size(draft: Draft, facts: Facts) -> None:
    if not draft.is_auto("data.image_size"):
        return
    height, width = facts.size
    if not facts.is_photos and max(height, width) <= SMALL_SIDE:
        draft.set("data.image_size", *_whole_patches(draft, (height, width)))
        return
    on_gpu = pick_device(draft.values["device"]).type == "cuda"
    largest = 224 if on_gpu else 96
    side = max((size for size in IMAGE_SIZES if size <= min(height, width, largest)), default=32)
    limit = (
        "" if min(height, width) <= largest else f", more than {largest} px is slow without a GPU"
    )
    draft.set("data.image_size", (side, side), f"the median image is {height}x{width}{limit}")


def _whole_patches(draft: Draft, size: tuple[int, int]) -> tuple[tuple[int, int], str]:
    """The size of small images, rounded up where the model that is asked for cannot take it."""
    for step in PATCH_STEPS:
        rounded = (-(-size[0] // step) * step, -(-size[1] // step) * step)
        if _is_taken(draft, rounded):
            is_own = rounded == size
            why = "the size of the images" if is_own else f"{size[0]}x{size[1]} in whole patches"
            return rounded, why
    return size, "the size of the images"


def _is_taken(draft: Draft, size: tuple[int, int]) -> bool:
    """Whether the model of the draft can be built for images of (height, width) px."""
    name = str(draft.values["model.name"])
    if name in (AUTO, AUTO_VIT):
        name = TINIEST if max(size) <= DIGITS_SIDE else "resnet_ti"
    named = parse_name(name)
    if named and "stem" in named.fields:  # its root is fitted to small images
        return True
    try:
        resolve_model(name, num_classes=2, image_size=size, overrides=draft.fields())
    except UsageError as error:
        return error.code != "VIT-214"
    return True


def _model(draft: Draft, facts: Facts) -> None:
    name = draft.values["model.name"]
    if name == AUTO and draft.values["recipe"] == RESIDUAL:
        draft.set("model.name", *largest(RESNETS, RESNET, draft.values, facts))
        return
    if name not in (AUTO, AUTO_VIT):
        return
    size = draft.values["data.image_size"]
    if max(size) <= DIGITS_SIDE:
        draft.set("model.name", TINIEST, f"images of {size[0]}x{size[1]} px")
        return
    on_gpu = pick_device(draft.values["device"]).type == "cuda"
    has_own = any(not draft.is_free(f"model.{field}") for field in draft.fields())
    if draft.values["recipe"] == VIT and not on_gpu and not has_own:
        draft.set("model.name", *largest(vits(size), STEMMED, draft.values, facts))
        return
    patch = patch_size(size)
    if on_gpu:
        draft.set("model.name", f"vit_s{patch}", "a GPU trains it in reasonable time")
        return
    draft.set(
        "model.name", f"vit_ti{patch}", f"{size[0]}x{size[1]} px in patches of {patch}, on a CPU"
    )
    shape, why = NARROW, "not many passes over small images on a CPU"
    if "model.width" in draft.values:
        shape, why = _fitting(shape, int(draft.values["model.width"])), "fits the width"
    elif facts.is_photos or _passes(draft, facts, **shape._asdict()) >= MANY_PASSES:
        shape, why = WIDER, "photographs, or many passes, on a CPU"
    for key, value in shape._asdict().items():
        if f"model.{key}" not in draft.values:
            draft.set(f"model.{key}", value, why)


def _family(draft: Draft) -> None:
    """A recipe's fields give way where a named model has none such, or says otherwise itself; a
    residual network looks at small images without strides in its root."""
    name = str(draft.values["model.name"])
    named = parse_name(name)
    if named is None or draft.values.get("start.model"):
        return
    known = CONFIGS[named.family].model_fields
    is_recipes = draft.sources.get("model.name", "").startswith("recipe ")
    for field in draft.fields():
        key, has = f"model.{field}", field in named.fields and not is_recipes
        if draft.is_free(key) and (field not in known or has):
            draft.drop(key)
            draft.reasons.append((key, "left out", f"{name} has its own, or none"))
    _root(draft, named)


def _root(draft: Draft, named: Named) -> None:
    size, key = draft.values["data.image_size"], "stem" if named.family == "bit" else "stem_root"
    is_residual = named.family == "bit" or named.fields.get("stem") == "resnet"
    is_small = named.fields.get(key) == "small"
    if not is_residual or is_small or f"model.{key}" in draft.values or max(size) > SMALL_SIDE:
        return
    draft.set(f"model.{key}", "small", f"{size[0]}x{size[1]} px are too few for a root of stride 4")
    patch = named.fields.get("patch_size", (1, 1))[0]
    fits = min(size) >= 4 * patch and not any(side % patch for side in size)
    if patch > 1 and not fits and "model.patch_size" not in draft.values:
        why = f"{size[0]}x{size[1]} positions are too few for patches of {patch}, or no multiple"
        draft.set("model.patch_size", patch_size(size), why)


def _fitting(shape: Shape, width: int) -> Shape:
    """`shape` at another width: heads of about 32 channels, an MLP twice as wide."""
    heads = next((n for n in range(max(1, width // 32), 0, -1) if width % n == 0), 1)
    return shape._replace(width=width, num_heads=heads, mlp_dim=2 * width)


def patch_size(size: tuple[int, int]) -> int:
    """The patch for near 8 to 14 tokens a side: 4 at 28 and 32 px, 8 at 64 and 96, 16 at 224."""
    fitting = [p for p in (2, 4, 7, 8, 14, 16) if size[0] % p == 0 and size[1] % p == 0]
    wanted = max(size) / 8 if max(size) < 128 else max(size) / 14
    return min(fitting, key=lambda p: abs(p - wanted), default=1)


def _batch_size(draft: Draft, facts: Facts) -> None:
    if draft.is_auto("batch_size"):
        n = facts.num_train
        is_large = draft.values["recipe"] == RESIDUAL and n >= LARGE_DATA
        size = next((b for b in (64, 32, 16, 8) if n >= 20 * b), min(8, n))
        why = (
            f"at least 20 steps an epoch with {count(n, 'image')}"
            if size < 64
            else "many small steps"
        )
        draft.set("batch_size", *((128, "many images") if is_large else (size, why)))


def _rate(draft: Draft) -> None:
    """Where a user names another optimiser than the recipe: a rate and decay that are usual for it,
    because those of Muon are not.
    """
    if draft.values["recipe"] not in (RESIDUAL, VIT):
        return
    named = parse_name(str(draft.values["model.name"]))
    if named is not None and (named.family == "bit" or named.fields.get("stem") == "resnet"):
        if draft.is_free("optim.name"):  # Muon was searched for the other families
            draft.set("optim.name", "adamw", "the model has standardised kernels")
    elif draft.is_free("optim.name"):
        return
    name = str(draft.values["optim.name"])
    for key, value in USUAL.get(name, {}).items():
        if draft.is_free(key):
            draft.set(key, value, f"usual for {name}")


def _crop(draft: Draft, facts: Facts) -> None:
    if draft.values["augment.crop"] != "pad_crop" or not draft.is_free("augment.crop"):
        return
    side = min(draft.values["data.image_size"])
    if facts.is_photos:
        draft.set("augment.crop", "inception", "photographs: parts of an image show its class")
        draft.set("augment.crop_scale", (0.35, 1.0), "small data: not too small a part")
    elif side < SHIFT_SIDE:
        draft.set("augment.crop", "none", f"{side} px are too few to shift an image")
        if draft.is_free("augment.policy") and _passes(draft, facts) >= FEW_PASSES:
            why = "mild changes instead of shifts"
            for key, value in (("policy", "randaugment"), ("num_ops", 1), ("magnitude", 3.0)):
                draft.set(f"augment.{key}", value, why)
    elif (passes := _passes(draft, facts)) < FEW_PASSES:
        draft.set("augment.crop", "none", "few passes over the data: every image is still new")
    elif draft.is_free("augment.crop_pad"):
        part = 8 if passes >= MANY_PASSES else 16
        draft.set("augment.crop_pad", max(1, side // part), f"1/{part} of the side")
    is_scene = int(draft.values["data.channels"]) == 3 and side >= SHIFT_SIDE
    if is_scene and draft.is_free("augment.policy") and _passes(draft, facts) >= MANY_PASSES:
        draft.set("augment.policy", "trivialaugment", "many passes over images in colour")


def _passes(draft: Draft, facts: Facts, **shape: int) -> float:
    """Passes over the training images with the model as it is draft, or of another shape."""
    config = draft.start or resolve_model(
        str(draft.values["model.name"]),
        num_classes=2,
        image_size=draft.values["data.image_size"],
        channels=int(draft.values["data.channels"]),
        overrides=shape | draft.fields(),
    )
    return affordable_images(macs(config), draft.values, facts) / facts.num_train


def _flip(draft: Draft, facts: Facts) -> None:
    if facts.mirrored is None or not draft.is_free("augment.flip"):
        return
    plain, mirrored = facts.mirrored
    queries = min(QUERIES, facts.num_train // 5)
    noise = 2 * math.sqrt(2 * plain * (1 - plain) / max(1, queries))
    if mirrored < plain * (1 - MIRROR_LOSS) - noise:
        why = f"nearest neighbours agree for {mirrored:.0%} of mirrored images, else {plain:.0%}"
        draft.set("augment.flip", 0.0, why)


def _length(draft: Draft) -> None:
    if draft.is_auto("eval_every_epochs"):
        epochs = draft.values.get("epochs")
        every = max(1.0, round(epochs / 30)) if epochs else 1.0
        draft.set(
            "eval_every_epochs", every, "about 30 evaluations" if every > 1 else "every epoch"
        )


def _machine(draft: Draft, facts: Facts) -> None:
    device = pick_device(draft.values["device"])
    if draft.is_auto("device"):
        draft.set("device", str(device), "the fastest there is")
    if draft.is_auto("precision"):
        draft.set("precision", *pick_precision("auto", device))
    if draft.is_auto("threads"):
        draft.set("threads", *num_threads())
    if draft.is_auto("data.workers"):
        draft.set("data.workers", *_workers(facts.kind))
    for key in ("data.val_fraction", "data.test_fraction"):
        if draft.is_auto(key):
            draft.drop(key)


def share_parts(draft: Draft, world: int) -> None:
    """At least as many equal parts of a step as there are processes, where no user says how many;
    a batch that nobody asked for grows to a multiple of them.
    """
    parts, size = int(draft.values["optim.accumulate"]), int(draft.values["batch_size"])
    if draft.is_free("optim.accumulate") and parts % world:
        parts = -(-parts // world) * world
        draft.set("optim.accumulate", parts, f"shared by {count(world, 'process')}")
    is_chosen = draft.is_free("batch_size") or draft.sources["batch_size"].startswith("auto")
    if world > 1 and size % parts and is_chosen:
        draft.set("batch_size", -(-size // parts) * parts, f"a multiple of {parts} parts")


def _workers(kind: str) -> tuple[int, str]:
    """How many processes decode images, and why."""
    if kind == "arrays":
        return 0, "images are in memory"
    cores, fitting = (
        min(MOST_WORKERS, num_cores()),
        memory_bytes() // WORKER_BYTES // processes_here(),
    )
    if fitting < cores:
        return fitting, f"more than {fitting} would not fit into memory"
    return cores, "one a core"

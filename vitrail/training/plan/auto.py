"""What "auto" means: one function a setting, each saying why.

Choices depend on the data and the machine's abilities, never on a stopwatch, so that the same
command on the same machine makes the same run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vitrail.config import TrainConfig, flatten
from vitrail.device import memory_bytes, num_cores, num_threads, pick_device, pick_precision
from vitrail.models.cost import activation_bytes, macs, parameters, standardised_bytes
from vitrail.models.names import CONFIGS, ModelConfig, Named, parse_name, resolve_model
from vitrail.training.plan.auto_model import (
    AUTO,
    AUTO_VIT,
    RESIDUAL,
    RESNET,
    RESNETS,
    STEMMED,
    VIT,
    affordable_images,
    family_recipe,
    largest,
    vits,
)
from vitrail.training.plan.facts import QUERIES, Facts

IMAGE_SIZES = (32, 48, 64, 96, 128, 160, 192, 224)
SMALL_SIDE = 64  # px; residual networks then start with a 3x3 convolution
SHIFT_SIDE = 24  # px; a shift moves smaller pictures too far
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


@dataclass
class Chosen:
    """Settings while they are being chosen: flat values, their sources and the reasons so far."""

    config: TrainConfig
    sources: dict[str, str]
    facts: Facts
    values: dict[str, Any] = field(init=False)
    reasons: list[tuple[str, Any, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = flatten(self.config)

    def set(self, key: str, value: Any, why: str) -> None:
        """Choose `value` for `key`, which was "auto" or a recipe's."""
        self.values[key] = value
        self.sources[key] = f"auto: {why}"
        self.reasons.append((key, value, why))

    def is_free(self, key: str) -> bool:
        """Whether no user set `key`."""
        source = self.sources.get(key, "built-in")
        return source == "built-in" or source.startswith("recipe ")

    def is_auto(self, key: str) -> bool:
        """Whether `key` still waits for a choice."""
        return bool(self.values.get(key) == "auto")


class Shape(NamedTuple):
    """A ViT smaller than the named sizes."""

    width: int
    depth: int
    num_heads: int
    mlp_dim: int


# Five minutes of one core on Fashion-MNIST: the narrow one sees the pictures twice as often
# and ends above the wider one (docs/decisions.md).
NARROW = Shape(width=96, depth=4, num_heads=3, mlp_dim=192)
WIDER = Shape(width=128, depth=6, num_heads=4, mlp_dim=256)


def recipe_name(config: TrainConfig, facts: Facts) -> tuple[str, str]:
    """The recipe for the data where none was named."""
    if config.recipe != "auto":
        return config.recipe, "asked for"
    if config.objective == "masked_patches":
        return "paper.masked_patches", "the objective is asked for"
    if (
        facts.num_train >= 200_000
        and min(facts.size) >= 128
        and pick_device(config.device).type == "cuda"
    ):
        return "plain.vit_s16_i1k", f"{facts.num_train} large pictures and a GPU"
    return family_recipe(config, facts)


def fill(chosen: Chosen, *, multi_label: bool) -> None:
    """Replace every "auto"."""
    learns_labels = chosen.values["objective"] == "classify"
    if multi_label and learns_labels and chosen.is_free("loss.name"):
        chosen.set("loss.name", "sigmoid", "a picture may have several labels")
    _channels(chosen)
    _image_size(chosen)
    _rate(chosen)
    _batch_size(chosen)
    _model(chosen)
    _family(chosen)
    _crop(chosen)
    _flip(chosen)
    _length(chosen)
    _machine(chosen)


def _channels(chosen: Chosen) -> None:
    if chosen.is_auto("data.channels"):
        gray, looked = chosen.facts.channels == 1, chosen.facts.decoded
        which = f"all {looked} images looked at are" if looked else "every image is"
        chosen.set(
            "data.channels",
            chosen.facts.channels,
            f"{which} gray" if gray else "images have colours",
        )


def _image_size(chosen: Chosen) -> None:
    if not chosen.is_auto("data.image_size"):
        return
    height, width = chosen.facts.size
    if chosen.facts.kind == "arrays" and max(height, width) <= 64:
        chosen.set("data.image_size", (height, width), "the size of the pictures")
        return
    on_gpu = pick_device(chosen.config.device).type == "cuda"
    largest = 224 if on_gpu else 96
    side = max((size for size in IMAGE_SIZES if size <= min(height, width, largest)), default=32)
    limit = (
        "" if min(height, width) <= largest else f", more than {largest} px is slow without a GPU"
    )
    chosen.set("data.image_size", (side, side), f"the median picture is {height}x{width}{limit}")


def _model(chosen: Chosen) -> None:
    name = chosen.values["model.name"]
    if name == AUTO and chosen.values["recipe"] == RESIDUAL:
        chosen.set("model.name", *largest(RESNETS, RESNET, chosen.values, chosen.facts))
        return
    if name not in (AUTO, AUTO_VIT):
        return
    size = chosen.values["data.image_size"]
    if max(size) <= 12:
        chosen.set("model.name", "vit_digits", f"pictures of {size[0]}x{size[1]} px")
        return
    on_gpu = pick_device(chosen.config.device).type == "cuda"
    has_own = any(key.startswith("model.") and not chosen.is_free(key) for key in chosen.values
                  if key != "model.name")  # fmt: skip
    if chosen.values["recipe"] == VIT and not on_gpu and not has_own:
        chosen.set("model.name", *largest(vits(size), STEMMED, chosen.values, chosen.facts))
        return
    patch = patch_size(size)
    if on_gpu:
        chosen.set("model.name", f"vit_s{patch}", "a GPU trains it in reasonable time")
        return
    chosen.set(
        "model.name", f"vit_ti{patch}", f"{size[0]}x{size[1]} px in patches of {patch}, on a CPU"
    )
    shape, why = NARROW, "not many passes over small pictures on a CPU"
    if "model.width" in chosen.values:
        shape, why = _fitting(shape, int(chosen.values["model.width"])), "fits the width"
    elif chosen.facts.kind == "files" or _passes(chosen, **shape._asdict()) >= MANY_PASSES:
        shape, why = WIDER, "photographs, or many passes, on a CPU"
    for key, value in shape._asdict().items():
        if f"model.{key}" not in chosen.values:
            chosen.set(f"model.{key}", value, why)


def _family(chosen: Chosen) -> None:
    """A recipe's fields give way where a named model has none such, or says otherwise itself; a
    residual network looks at small pictures without strides in its root."""
    name = str(chosen.values["model.name"])
    named = parse_name(name)
    if named is None or chosen.values.get("start.model"):
        return
    known = CONFIGS[named.family].model_fields
    is_recipes = chosen.sources.get("model.name", "").startswith("recipe ")
    for key in [key for key in chosen.values if key.startswith("model.") and key != "model.name"]:
        field = key.removeprefix("model.")
        if chosen.is_free(key) and (
            field not in known or (field in named.fields and not is_recipes)
        ):
            del chosen.values[key]
            chosen.sources.pop(key, None)
            chosen.reasons.append((key, "left out", f"{name} has its own, or none"))
    _root(chosen, named)


def _root(chosen: Chosen, named: Named) -> None:
    size, key = chosen.values["data.image_size"], "stem" if named.family == "bit" else "stem_root"
    is_residual = named.family == "bit" or named.fields.get("stem") == "resnet"
    is_small = named.fields.get(key) == "small"
    if not is_residual or is_small or f"model.{key}" in chosen.values or max(size) > SMALL_SIDE:
        return
    chosen.set(
        f"model.{key}", "small", f"{size[0]}x{size[1]} px are too few for a root of stride 4"
    )
    patch = named.fields.get("patch_size", (1, 1))[0]
    fits = min(size) >= 4 * patch and not any(side % patch for side in size)
    if patch > 1 and not fits and "model.patch_size" not in chosen.values:
        why = f"{size[0]}x{size[1]} positions are too few for patches of {patch}, or no multiple"
        chosen.set("model.patch_size", patch_size(size), why)


def _fitting(shape: Shape, width: int) -> Shape:
    """`shape` at another width: heads of about 32 channels, an MLP twice as wide."""
    heads = next((n for n in range(max(1, width // 32), 0, -1) if width % n == 0), 1)
    return shape._replace(width=width, num_heads=heads, mlp_dim=2 * width)


def patch_size(size: tuple[int, int]) -> int:
    """The patch for near 8 to 14 tokens a side: 4 at 28 and 32 px, 8 at 64 and 96, 16 at 224."""
    fitting = [p for p in (2, 4, 7, 8, 14, 16) if size[0] % p == 0 and size[1] % p == 0]
    wanted = max(size) / 8 if max(size) < 128 else max(size) / 14
    return min(fitting, key=lambda p: abs(p - wanted), default=1)


def _batch_size(chosen: Chosen) -> None:
    if chosen.is_auto("batch_size"):
        n = chosen.facts.num_train
        is_large = chosen.values["recipe"] == RESIDUAL and n >= LARGE_DATA
        size = next((b for b in (64, 32, 16, 8) if n >= 20 * b), min(8, n))
        why = f"at least 20 steps an epoch with {n} pictures" if size < 64 else "many small steps"
        chosen.set("batch_size", *((128, "many pictures") if is_large else (size, why)))


def _rate(chosen: Chosen) -> None:
    """Where a user names another optimiser than the recipe: a rate and decay that are usual for it,
    because those of Muon are not.
    """
    if chosen.values["recipe"] not in (RESIDUAL, VIT):
        return
    named = parse_name(str(chosen.values["model.name"]))
    if named is not None and (named.family == "bit" or named.fields.get("stem") == "resnet"):
        if chosen.is_free("optim.name"):  # Muon was searched for the other families
            chosen.set("optim.name", "adamw", "the model has standardised kernels")
    elif chosen.is_free("optim.name"):
        return
    name = str(chosen.values["optim.name"])
    for key, value in USUAL.get(name, {}).items():
        if chosen.is_free(key):
            chosen.set(key, value, f"usual for {name}")


def _crop(chosen: Chosen) -> None:
    if chosen.values["augment.crop"] != "pad_crop" or not chosen.is_free("augment.crop"):
        return
    side = min(chosen.values["data.image_size"])
    if chosen.facts.kind == "files":
        chosen.set("augment.crop", "inception", "photographs: parts of a picture show its class")
        chosen.set("augment.crop_scale", (0.35, 1.0), "small data: not too small a part")
    elif side < SHIFT_SIDE:
        chosen.set("augment.crop", "none", f"{side} px are too few to shift a picture")
        if chosen.is_free("augment.policy") and _passes(chosen) >= FEW_PASSES:
            why = "mild changes instead of shifts"
            for key, value in (("policy", "randaugment"), ("num_ops", 1), ("magnitude", 3.0)):
                chosen.set(f"augment.{key}", value, why)
    elif (passes := _passes(chosen)) < FEW_PASSES:
        chosen.set("augment.crop", "none", "few passes over the data: every picture is still new")
    elif chosen.is_free("augment.crop_pad"):
        part = 8 if passes >= MANY_PASSES else 16
        chosen.set("augment.crop_pad", max(1, side // part), f"1/{part} of the side")


def _passes(chosen: Chosen, **shape: int) -> float:
    """Passes over the training images with the model as it is chosen, or of another shape."""
    fields = {key.removeprefix("model."): value for key, value in chosen.values.items()
              if key.startswith("model.") and key != "model.name"}  # fmt: skip
    config = resolve_model(
        str(chosen.values["model.name"]),
        num_classes=2,
        image_size=chosen.values["data.image_size"],
        channels=int(chosen.values["data.channels"]),
        overrides=shape | fields,
    )
    return affordable_images(macs(config), chosen.values, chosen.facts) / chosen.facts.num_train


def _flip(chosen: Chosen) -> None:
    if chosen.facts.mirrored is None or not chosen.is_free("augment.flip"):
        return
    plain, mirrored = chosen.facts.mirrored
    queries = min(QUERIES, chosen.facts.num_train // 5)
    noise = 2 * math.sqrt(2 * plain * (1 - plain) / max(1, queries))
    if mirrored < plain * (1 - MIRROR_LOSS) - noise:
        why = f"nearest neighbours agree for {mirrored:.0%} of mirrored pictures, else {plain:.0%}"
        chosen.set("augment.flip", 0.0, why)


def _length(chosen: Chosen) -> None:
    if chosen.is_auto("eval_every_epochs"):
        epochs = chosen.values.get("epochs")
        every = max(1.0, round(epochs / 30)) if epochs else 1.0
        chosen.set(
            "eval_every_epochs", every, "about 30 evaluations" if every > 1 else "every epoch"
        )


def _machine(chosen: Chosen) -> None:
    device = pick_device(chosen.config.device)
    if chosen.is_auto("device"):
        chosen.set("device", str(device), "the fastest there is")
    if chosen.is_auto("precision"):
        chosen.set("precision", *pick_precision("auto", device))
    if chosen.is_auto("threads"):
        chosen.set("threads", *num_threads())
    if chosen.is_auto("data.workers"):
        chosen.set("data.workers", *_workers(chosen.facts.kind))
    for key in ("data.val_fraction", "data.test_fraction"):
        if chosen.is_auto(key):
            chosen.values.pop(key)
            chosen.sources.pop(key, None)


def _workers(kind: str) -> tuple[int, str]:
    """How many processes decode pictures, and why."""
    if kind == "arrays":
        return 0, "pictures are in memory"
    cores, fitting = min(MOST_WORKERS, num_cores()), memory_bytes() // WORKER_BYTES
    if fitting < cores:
        return fitting, f"more than {fitting} would not fit into memory"
    return cores, "one a core"


def training_bytes(model: ModelConfig, batch: int, *, is_checkpointed: bool = False) -> int:
    """Memory of a step: activations, and the weights with gradients, moments and averages."""
    return activation_bytes(model, batch, is_checkpointed=is_checkpointed) + weight_bytes(model)


def largest_batch(
    model: ModelConfig, available_bytes: int, *, is_checkpointed: bool = False
) -> int:
    """The largest batch whose step fits into `available_bytes`; 0 where none does."""
    one = activation_bytes(model, 1, is_checkpointed=is_checkpointed)
    return max(0, (available_bytes - weight_bytes(model)) // one)


def weight_bytes(model: ModelConfig) -> int:
    """Of a step, whatever the batch: a weight, its gradient, two moments, an average; kernels once
    more where they are standardised."""
    return 20 * parameters(model) + standardised_bytes(model)

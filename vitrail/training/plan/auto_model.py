"""Which model "auto" is: the family and size that the search of `benchmarks/budget` found best.

A budget is a number of multiply-adds: what the cores do in a time limit, or, without one, what the
asked number of passes costs. Verdicts are those of docs/budgets.md. A choice looks at the data and
the machine's abilities, never at a stopwatch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vitrail.config import TrainConfig, flatten
from vitrail.device import num_threads, pick_device, pick_precision
from vitrail.models.cost import macs
from vitrail.models.names import CONFIGS, parse_name, resolve_model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.spelling import count
from vitrail.training.plan.facts import Facts

AUTO, AUTO_VIT = "auto", "auto-vit"
RESIDUAL, VIT = "small.residual", "small.scratch"
DIGITS_SIDE, TINIEST = 12, "vit_digits"  # px; up to here there is a ViT of its own
# How many images a size must see in training to be better than the next smaller one.
RESNETS = {"resnet_ti": 0, "resnet_s": 30_000, "resnet_m": 1_000_000, "resnet_b": 10_000_000}
VITS = {"vitc_ti": 0, "vitc_s": 1_000_000}
TOKENIZED_SIDE = 40  # px; up to here convolutions with pools make better tokens (CCT)
TOKENIZED = {"cct_2_3x2": 0, "cct_4_3x2": 1_000_000}


class SearchRow(NamedTuple):
    """A setting of the search: training images, how often the best saw each, and validation top-1
    of the best of each family.
    """

    data: str
    images: int
    passes: float
    top1: Mapping[str, float]


RESNET, STEMMED = "a residual network", "a ViT behind convolutions"
HYBRID, PLAIN = "a hybrid", "a plain ViT"
FOUND: tuple[SearchRow, ...] = (
    SearchRow(
        "2,890 images of CIFAR-10",
        2890,
        35,
        {RESNET: 0.711, HYBRID: 0.658, STEMMED: 0.652, PLAIN: 0.579},
    ),
    SearchRow(
        "1,000 images of Fashion-MNIST",
        1000,
        56,
        {RESNET: 0.856, HYBRID: 0.832, STEMMED: 0.824, PLAIN: 0.772},
    ),
)
# Forward multiply-adds a second of training: of one core, of a GPU.
CORE_MACS = {"bfloat16": 2.5e10, "float32": 1.4e10}
GPU_MACS = 2e12
# Fields of the model that any family has, so that they do not say which is meant.
OURS = frozenset(ResNetConfig.model_fields)


def family_recipe(config: TrainConfig, facts: Facts) -> tuple[str, str]:
    """The recipe of a training from scratch, and why. config: what a user asked for."""
    name = config.model.name
    if name == AUTO_VIT:
        return VIT, "a ViT is asked for"
    if name != AUTO:
        named = parse_name(name)
        is_residual = named is not None and named.family == "resnet"
        return (
            RESIDUAL if is_residual else VIT
        ), f"{count(facts.num_train, 'training image')} from scratch"
    fields = [key.removeprefix("model.") for key in flatten(config) if key.startswith("model.")]
    theirs = [one for one in fields if one in CONFIGS["vit"].model_fields and one not in OURS]
    if theirs:
        return VIT, f"model.{theirs[0]} is asked for, which a ViT has"
    if max(facts.size) <= DIGITS_SIDE:
        return VIT, f"images of {facts.size[0]}x{facts.size[1]} px"
    return RESIDUAL, f"{count(facts.num_train, 'training image')} from scratch"


def largest(
    sizes: Mapping[str, int], family: str, values: Mapping[str, Any], facts: Facts
) -> tuple[str, str]:
    """The largest of `sizes`, from small to large, that sees enough images, and why."""
    for name in reversed(list(sizes)):
        config = resolve_model(
            name,
            num_classes=2,
            image_size=values["data.image_size"],
            channels=int(values["data.channels"]),
        )
        seen = affordable_images(macs(config), values, facts)
        if seen >= sizes[name]:
            break
    passes = seen / facts.num_train
    why = f"about {passes:.2g} passes over {count(facts.num_train, 'image')}"
    return name, f"{why}; {beside(family, facts.num_train, passes)}"


def beside(family: str, num_images: int, passes: float) -> str:
    """What the search says of `family` and of the best other, in the setting that is nearest."""

    def distance(row: SearchRow) -> float:
        shares = (num_images / row.images, max(passes, 0.01) / row.passes)
        return math.hypot(*map(math.log, shares))

    nearest = min(FOUND, key=distance)
    rival = max((name for name in nearest.top1 if name != family), key=nearest.top1.__getitem__)
    gap = 100 * (nearest.top1[family] - nearest.top1[rival])
    than = f"{abs(gap):.0f} points {'above' if gap > 0 else 'below'} {rival}"
    return f"with {nearest.data} {than}"


def vits(image_size: tuple[int, int]) -> Mapping[str, int]:
    """The ViTs that are chosen from for images of (height, width) px."""
    return TOKENIZED if max(image_size) <= TOKENIZED_SIDE else VITS


def affordable_images(macs_of_one: int, values: Mapping[str, Any], facts: Facts) -> float:
    """How many images a training sees: in its time limit, or as many as are asked for."""
    if not values.get("time_limit_secs"):
        return passes(values, facts) * facts.num_train
    device = pick_device(str(values["device"]))
    if device.type == "cuda":
        return float(values["time_limit_secs"]) * GPU_MACS / macs_of_one
    precision, _ = pick_precision(str(values["precision"]), device)
    threads = num_threads()[0] if values["threads"] == AUTO else int(values["threads"])
    return float(values["time_limit_secs"]) * threads * CORE_MACS[precision] / macs_of_one


def passes(values: Mapping[str, Any], facts: Facts) -> float:
    """Passes over the training images that are asked for; none under a time limit."""
    if values.get("epochs"):
        return float(values["epochs"])
    examples = values.get("examples") or (values.get("steps") or 0) * int(values["batch_size"])
    return float(examples) / facts.num_train

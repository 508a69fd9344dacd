"""What "auto" means with `--from`: what the model brings is taken over, and a recipe that fits."""

from __future__ import annotations

from vitrail.config import TrainConfig
from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import parse_name
from vitrail.models.vit.config import ViTConfig
from vitrail.recipes.image_facts import ImageFacts
from vitrail.training.plan import auto
from vitrail.training.plan.auto import Chosen
from vitrail.training.plan.facts import Facts
from vitrail.training.plan.starting_model import FREE, Start, refuse_architecture, refuse_new_layers

SEARCHED = 20_000  # training pictures; below, BiT-HyperRule's small data
SAME = "as the model was trained"
PAPER_WIDTH = 768  # of ViT-B, with which the paper did masked patch prediction


def pictures_of(facts: Facts, start: Start | None) -> ImageFacts:
    """What recipes may know."""
    if start is None:
        return ImageFacts(facts.num_train, facts.size)
    size = (start.preprocess.height, start.preprocess.width)
    shown = ImageFacts(facts.num_train, facts.size, size, start.multiple)
    if not isinstance(start.config, ViTConfig):
        return shown._replace(depth=0)
    return shown._replace(width=start.config.width, depth=start.config.depth)


def recipe_name(config: TrainConfig, facts: Facts, start: Start | None) -> tuple[str, str]:
    """The recipe of a run, and why."""
    if start is None or config.recipe != "auto" or config.objective != "classify":
        return auto.recipe_name(config, facts)
    if config.freeze == "body":
        return "transfer.head", "only the head is trained"
    if config.lora.rank:
        return "transfer.lora", "adapters are trained"
    if isinstance(start.config, BiTConfig):
        return "bit.hyperrule", "the model is a BiT ResNet"
    if not isinstance(start.config, ViTConfig):
        return "transfer.adamw", "the model is a residual network"
    if not start.classes and not start.config.num_classes:
        return "transfer.adamw", "the model has seen no labels"
    if facts.num_train < SEARCHED:
        return "transfer.adamw", f"{facts.num_train} pictures: no search for the rate of SGD"
    return "paper.finetune", f"a ViT and {facts.num_train} pictures"


def take_over(chosen: Chosen, start: Start) -> None:
    """Architecture, image size, channels and preprocessing of the start, where no user set them.

    Raises UsageError VIT-245 where a user asked for another architecture.
    """
    values = chosen.values
    fields = [key for key in values if key.startswith("model.") and key != "model.name"]
    given = [key for key in fields if not chosen.is_free(key)]
    name = "" if chosen.is_free("model.name") else str(values["model.name"])
    overrides = {key[6:]: values[key] for key in given}
    refuse_architecture("" if name == "auto" else name, overrides, start)
    if values["freeze"] == "body" or values["lora.rank"]:
        refuse_new_layers(overrides, start)
    known = FREE & set(type(start.config).model_fields)
    for key in fields:  # a recipe's architecture gives way
        if key not in given and key[6:] not in known:
            del values[key]
            chosen.sources.pop(key, None)
    chosen.set("model.name", start.name, f"the architecture of {start.path}")
    values["start.sha256"] = start.sha256
    chosen.sources["start.sha256"] = "auto: of its weights and classes"
    if chosen.is_auto("data.channels"):
        chosen.set("data.channels", start.config.channels, SAME)
    if chosen.is_auto("data.image_size"):
        chosen.set("data.image_size", (start.preprocess.height, start.preprocess.width), SAME)
    for key in ("data.resize", "data.interpolation", "data.normalize"):
        if chosen.is_free(key):
            chosen.set(key, "source", SAME)
    if values["data.resize"] == "source" and chosen.is_free("data.crop_fraction"):
        values["data.crop_fraction"] = 1.0


def settle(chosen: Chosen, start: Start | None) -> None:
    """Take back what a recipe set and what has no effect beside a user's own settings, and fit the
    rate of masked patch prediction to the model.
    """
    if chosen.values["objective"] == "masked_patches" and chosen.is_free("optim.lr"):
        width = _width(chosen, start)
        if width not in (None, PAPER_WIDTH):
            rate = float(f"{chosen.values['optim.lr'] * PAPER_WIDTH / width:.2g}")
            why = f"the paper's is of width {PAPER_WIDTH}; Adam's goes with 1 / width"
            chosen.set("optim.lr", rate, why)
    frozen = chosen.values["freeze"] == "body"
    if frozen and chosen.values["optim.layer_decay"] < 1 and chosen.is_free("optim.layer_decay"):
        chosen.set("optim.layer_decay", 1.0, "only the head is trained")
    if frozen and chosen.values["lora.rank"] and chosen.is_free("lora.rank"):
        for key, value in (("lora.rank", 0), ("lora.alpha", 16.0)):
            chosen.set(key, value, "only the head is trained")
    if chosen.values["lora.rank"] and frozen and chosen.is_free("freeze"):
        chosen.set("freeze", "none", "adapters are trained")


def _width(chosen: Chosen, start: Start | None) -> int | None:
    """Of the model's blocks; None where it has none or its name is unknown."""
    if start is not None:
        return start.config.width if isinstance(start.config, ViTConfig) else None
    named = parse_name(str(chosen.values["model.name"]))
    width = chosen.values.get("model.width", named.fields.get("width") if named else None)
    return None if width is None else int(width)

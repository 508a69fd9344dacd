"""What "auto" means with `--from`: what the model brings is taken over, and a recipe that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.checkpoints.adapt.adapt_model import FREE_FIELDS
from vitrail.config import TrainConfig
from vitrail.errors import UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import parse_name
from vitrail.models.vit.config import ViTConfig
from vitrail.recipes.image_facts import ImageFacts
from vitrail.spelling import count
from vitrail.training.plan.draft import Draft
from vitrail.training.plan.facts import Facts
from vitrail.training.plan.starting_model import Start

SEARCHED = 20_000  # training images; below, BiT-HyperRule's small data
SAME = "as the model was trained"
# Fields of the architecture that belong to other settings, and those that may be others.
BY_DATA = {"image_size": "--image-size", "channels": "--data.channels", "num_classes": "DATA"}
FREE = frozenset(FREE_FIELDS - set(BY_DATA))
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


def transfer_recipe(config: TrainConfig, facts: Facts, start: Start) -> tuple[str, str]:
    """The recipe of a run that starts from a model, and why."""
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
        why = "training images: AdamW, because SGD needs a learning-rate search"
        return "transfer.adamw", f"{facts.num_train} {why}"
    return "paper.finetune", f"a ViT and {count(facts.num_train, 'image')}"


def inherit_from(draft: Draft, start: Start) -> None:
    """Architecture, image size, channels and preprocessing of the start, where no user set them.

    Raises UsageError VIT-245 where a user asked for another architecture.
    """
    values = draft.values
    fields = draft.fields()
    overrides = {key: fields[key] for key in fields if not draft.is_free(f"model.{key}")}
    name = "" if draft.is_free("model.name") else str(values["model.name"])
    refuse_architecture("" if name == "auto" else name, overrides, start)
    if values["freeze"] == "body" or values["lora.rank"]:
        refuse_new_layers(overrides, start)
    known = FREE & set(type(start.config).model_fields)
    for key in fields:  # a recipe's architecture gives way
        if key not in overrides and key not in known:
            draft.drop(f"model.{key}")
    draft.start = start.config
    draft.set("model.name", start.name, f"the architecture of {start.path}")
    values["start.sha256"] = start.sha256
    draft.sources["start.sha256"] = "auto: of its weights, classes and architecture"
    if draft.is_auto("data.channels"):
        draft.set("data.channels", start.config.channels, SAME)
    if draft.is_auto("data.image_size"):
        draft.set("data.image_size", (start.preprocess.height, start.preprocess.width), SAME)
    for key in ("data.resize", "data.interpolation", "data.normalize"):
        if draft.is_free(key):
            draft.set(key, "source", SAME)
    if values["data.resize"] == "source" and draft.is_free("data.crop_fraction"):
        values["data.crop_fraction"] = 1.0


def refuse_new_layers(overrides: Mapping[str, Any], start: Start) -> None:
    """Refuse layers that the start lacks where they would not be trained.

    overrides: `--model.FIELD` of a run whose body stays as it is. Raises UsageError VIT-254.
    """
    for key in set(overrides) & {"representation_size", "distillation_token"}:
        if str(overrides[key]).lower() != str(start.config.model_dump()[key]).lower():
            raise UsageError(
                "VIT-254",
                f"--model.{key} {overrides[key]}: a new layer would keep its random values, since "
                "the body is not trained (--freeze body or --lora-rank).",
                hint=f"Leave --model.{key} out, or train the complete model.",
            )


def refuse_architecture(name: str, overrides: Mapping[str, Any], start: Start) -> None:
    """Refuse another architecture than the start's. Raises UsageError VIT-245.

    name: `--model` where the user gave one, else "".
    """
    if name not in ("", start.name):
        raise UsageError(
            "VIT-245",
            f"--model {name}: the architecture is that of {start.path}, {start.name}.",
            hint="Leave --model out, or leave --from out to start from random values.",
        )
    for key in overrides:
        if key in BY_DATA:
            raise UsageError(
                "VIT-245",
                f"--model.{key}: with --from it follows from {BY_DATA[key]}.",
                hint=f"Use {BY_DATA[key]}.",
            )
        if key not in FREE:
            raise UsageError(
                "VIT-245",
                f"--model.{key}: the architecture is that of {start.path}; with --from only "
                f"{', '.join(sorted(FREE))} can be others.",
                hint="Leave it out, or leave --from out to start from random values.",
            )


def drop_ineffective(draft: Draft, start: Start | None) -> None:
    """Take back what a recipe set and what has no effect beside a user's own settings, and fit the
    rate of masked patch prediction to the model.
    """
    if draft.values["objective"] == "masked_patches" and draft.is_free("optim.lr"):
        width = _width(draft, start)
        if width not in (None, PAPER_WIDTH):
            rate = float(f"{draft.values['optim.lr'] * PAPER_WIDTH / width:.2g}")
            why = f"the paper's is of width {PAPER_WIDTH}; Adam's goes with 1 / width"
            draft.set("optim.lr", rate, why)
    frozen = draft.values["freeze"] == "body"
    if frozen and draft.values["optim.layer_decay"] < 1 and draft.is_free("optim.layer_decay"):
        draft.set("optim.layer_decay", 1.0, "only the head is trained")
    if frozen and draft.values["lora.rank"] and draft.is_free("lora.rank"):
        for key, value in (("lora.rank", 0), ("lora.alpha", 16.0)):
            draft.set(key, value, "only the head is trained")
    if draft.values["lora.rank"] and frozen and draft.is_free("freeze"):
        draft.set("freeze", "none", "adapters are trained")


def _width(draft: Draft, start: Start | None) -> int | None:
    """Of the model's blocks; None where it has none or its name is unknown."""
    if start is not None:
        return start.config.width if isinstance(start.config, ViTConfig) else None
    named = parse_name(str(draft.values["model.name"]))
    width = draft.values.get("model.width", named.fields.get("width") if named else None)
    return None if width is None else int(width)

"""Folders of Hugging Face transformers: ViT, DeiT, DINOv2 (with registers), SigLIP's image tower.

Source: transformers 5.23; tensors under the names that it saves
(`checkpoints/huggingface/names.py`), beside `config.json` and `preprocessor_config.json`. A model
is written as the class that computes the same, in exactly the same sums:

- class token alone: ViTForImageClassification; without a head ViTModel, its pooler our tanh layer;
- two tokens with a head each: DeiTForImageClassificationWithTeacher;
- class token and one register: DeiTForImageClassification, whose second token no head reads;
- layer scale, registers, SwiGLU, or a mean beside a class token: Dinov2ForImageClassification,
  Dinov2WithRegistersForImageClassification, whose head reads class token and mean side by side;
- no class token: SiglipForImageClassification, whose classifier reads the mean after the last norm,
  or without a head SiglipVisionModel, with attention pooling or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vitrail.checkpoints.huggingface import names as hf
from vitrail.checkpoints.huggingface.config import (
    DEFAULTS,
    mlp_ratio,
    other_kind,
    read_config,
    refused,
    said_by,
    written_config,
)
from vitrail.checkpoints.huggingface.labels import classes_of, label_notes
from vitrail.checkpoints.huggingface.naflex import (
    NAFLEX,
    read_naflex_preprocess,
    written_processor,
)
from vitrail.checkpoints.huggingface.preprocess import read_preprocess, write_preprocess
from vitrail.checkpoints.huggingface.rules import (
    read_rules,
    written_dino,
    written_siglip,
    written_vit,
)
from vitrail.checkpoints.mapping.equivalents import ANYTHING, COMPUTED, ENCODER, require
from vitrail.checkpoints.mapping.fact import Said, assumed
from vitrail.checkpoints.mapping.origin import ExportLayout, Origin, Recognised, cannot_hold
from vitrail.checkpoints.mapping.rules import Header, Rule
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.names import PublishedConfig
from vitrail.models.vit.config import ViTConfig

NAME = "huggingface"
TIMM_WRAPPER = "timm_wrapper"  # a folder of transformers around a model of timm, which reads it
# Its register models antialias, as dinov2's own do, and NaFlex as flexi does; the others do not.
RESAMPLES = {"dinov2_with_registers": "dino_registers", **{kind: "flexi" for kind in NAFLEX}}
HELD: dict[str, object] = {
    **ENCODER,
    "norm_after_pool": False,
    "posemb": ("learned", *COMPUTED),
    "stem": ("none",),
}


class ModelClass(NamedTuple):
    """A class of transformers: with a head and bare; base: of the body's names behind a head;
    held: what it has, field by field."""

    model_type: str
    base: str
    head: str
    bare: str
    held: Mapping[str, object]


PLAIN: dict[str, object] = {"layer_scale": None, "mlp": "gelu", "pool": ("cls",)}
VIT = ModelClass("vit", "vit.", "ViTForImageClassification", "ViTModel", PLAIN)
DEIT = ModelClass("deit", "deit.", "DeiTForImageClassification", "DeiTModel", PLAIN)
TEACHER = ModelClass(
    "deit",
    "deit.",
    "DeiTForImageClassificationWithTeacher",
    "DeiTModel",
    PLAIN | {"num_registers": 0},
)
MEANS: dict[str, object] = {"representation_size": None, "pool": ("cls", "gap", "cls_gap")}
DINO = ModelClass("dinov2", "dinov2.", "Dinov2ForImageClassification", "Dinov2Model", MEANS)
REGISTERS = ModelClass(
    "dinov2_with_registers",
    "dinov2_with_registers.",
    "Dinov2WithRegistersForImageClassification",
    "Dinov2WithRegistersModel",
    MEANS,
)
SIGLIP = ModelClass(
    "siglip",
    "vision_model.",
    "SiglipForImageClassification",
    "SiglipVisionModel",
    PLAIN | {"num_registers": 0, "representation_size": None, "pool": ("gap", "map")},
)
SIGLIP2 = ModelClass(
    "siglip2",
    "vision_model.",
    "Siglip2ForImageClassification",
    "Siglip2VisionModel",
    dict(SIGLIP.held) | {"posemb_resize": "bilinear", "max_patches": ANYTHING},
)


def recognise(header: Header) -> Recognised | None:
    """A folder whose config.json has a model_type, or tensors with transformers' names."""
    values = header.metadata.get("config.json")
    names = hf.names_of(header.shapes)
    if not isinstance(values, Mapping) or "model_type" not in values:
        if names is None:
            return None
        raise refused(header, "no model_type, or is not next to the tensors: heads are unknown.")
    model_type = str(values["model_type"])
    if model_type == TIMM_WRAPPER:
        return None
    if names is None or model_type not in DEFAULTS:
        raise refused(header, other_kind(model_type))
    config = read_config(header, values, names)
    rules = read_rules(config, names)
    settings = header.metadata.get("preprocessor_config.json")
    kept = settings if isinstance(settings, Mapping) else None
    if model_type in NAFLEX:
        preprocess, notes = read_naflex_preprocess(header.name, kept, config)
    else:
        preprocess, notes = read_preprocess(
            header.name, kept, model_type, config.image_size, config.channels
        )
    problem = values.get("problem_type")
    if problem == "regression" and config.num_classes:
        raise refused(header, "problem_type 'regression': its outputs are numbers, not classes.")
    is_multi = problem == "multi_label_classification"
    notes += label_notes(values, config.num_classes)
    return Recognised(
        config,
        rules + hf.unused_rules(header.shapes, rules),
        preprocess,
        classes_of(values, config.num_classes),
        tuple(notes),
        "sigmoid" if is_multi else "softmax",
        RESAMPLES.get(model_type, ""),
        said=said_by(values) | _budget_said(model_type, kept) | _pool_said(config, model_type),
        prepared=_prepared(header, settings),
    )


def _pool_said(config: ViTConfig, model_type: str) -> dict[str, Said]:
    """Whose own classifier reads class token and mean, but this one has inputs for one of them."""
    is_other = model_type.startswith("dinov2") and config.num_classes and config.pool == "cls"
    return assumed("a classifier of its own, of one token's width", "pool") if is_other else {}


def _budget_said(model_type: str, settings: Mapping[str, Any] | None) -> dict[str, Said]:
    """Who says the size of the table, and how many patches an image may become."""
    if model_type not in NAFLEX:
        return {}
    is_told = "max_num_patches" in (settings or {})
    told = Said("file", "preprocessor_config.json")
    assumed = Said("assumed", "default of the class")
    return {
        "image_size": Said("file", "config.json"),
        "max_patches": told if is_told else assumed,
        "posemb_resize": Said("file", "config.json"),
    }


def _prepared(header: Header, settings: object) -> Said:
    if isinstance(settings, Mapping):
        nested = header.metadata.get("processor_config.json", {}).get("image_processor")
        name = "preprocessor_config.json" if nested is None else "processor_config.json"
        return Said("file", name)
    return Said("assumed", "no preprocessor_config.json: as most of the family's models")


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """A folder that transformers opens. Raises ModelError VIT-417."""
    if not isinstance(config, ViTConfig):
        raise cannot_hold(NAME, "transformers' ResNets standardise kernels in another way")
    form = form_of(config)
    architecture = form.head if config.num_classes else form.bare
    _check(config, form, f"{NAME} ({architecture})")
    settings, notes = write_preprocess(preprocess)
    if preprocess.is_variable:
        settings |= written_processor(preprocess)
    is_tower = form in (SIGLIP, SIGLIP2) and not config.num_classes
    model_type = f"{form.model_type}_vision_model" if is_tower else form.model_type
    described = written_config(config, architecture, model_type, classes)
    if architecture == "ViTModel" and not config.representation_size:
        notes.append("ViTModel makes up a pooler that this model does not have: do not read it")
    files = {"config.json": _json(described), "preprocessor_config.json": _json(settings)}
    return ExportLayout(_rules(config, form), "safetensors", files, notes=tuple(notes))


def form_of(config: ViTConfig) -> ModelClass:
    """The class of transformers that comes nearest."""
    if not config.cls_token:
        return SIGLIP if config.max_patches is None else SIGLIP2
    if config.distillation_token:
        return TEACHER
    is_plain = config.pool == "cls" and config.layer_scale is None and config.mlp == "gelu"
    if is_plain and config.num_registers < 2:
        return DEIT if config.num_registers else VIT
    return REGISTERS if config.num_registers else DINO


def _check(config: ViTConfig, form: ModelClass, name: str) -> None:
    """Raises ModelError VIT-417 for the first thing that this class has no place for."""
    require(name, config, HELD | dict(form.held))
    if config.representation_size and config.num_classes:
        raise cannot_hold(name, "no class has both a tanh layer and a head")
    if form in (DINO, REGISTERS, SIGLIP, SIGLIP2):
        for field in ("image_size", "patch_size"):
            height, width = getattr(config, field)
            if height != width:
                raise cannot_hold(name, f"{field} is {height} x {width}; the class needs a square")
    if form in (DINO, REGISTERS):
        mlp_ratio(config)
    if form in (SIGLIP, SIGLIP2) and config.num_classes and config.pool == "map":
        raise cannot_hold(name, "its classifier reads the mean, not the attention pooling")
    if not config.num_classes and (form is TEACHER or form.held is MEANS and config.pool != "cls"):
        raise cannot_hold(name, "without a head it gives the class token, not this pooling")


def _rules(config: ViTConfig, form: ModelClass) -> list[Rule]:
    base = form.base if config.num_classes or form is SIGLIP else ""
    if form in (SIGLIP, SIGLIP2):
        return written_siglip(config, base)
    if form in (DINO, REGISTERS):
        return written_dino(config, base)
    return written_vit(config, base, has_token=form is DEIT)


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


HUGGINGFACE = Origin(NAME, recognise, write, resample="huggingface", head="classifier")

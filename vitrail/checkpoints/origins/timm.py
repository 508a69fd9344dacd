"""Models of timm: a folder of model.safetensors with config.json as on the hub, or a bare file.

Source: huggingface/pytorch-image-models @aa4b585, `models/vision_transformer*.py`, `resnetv2.py`.
Our tensors have timm's names, so the rules are the identity; heads, activation, image size and
preprocessing stand in config.json (`timm_config.py`). Without it the published sizes and timm's
usual values are assumed, and the report says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.checkpoints.huggingface.config import classes_of as labels_of
from vitrail.checkpoints.huggingface.config import names_left_out
from vitrail.checkpoints.mapping.equivalents import COMPUTED, position_rules, require
from vitrail.checkpoints.mapping.fact import Said, assumed
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    bit_config,
    cannot_hold,
    check_agrees,
    given_size,
    vit_config,
)
from vitrail.checkpoints.mapping.rules import Header, Rule
from vitrail.checkpoints.origins.timm_config import (
    CLIP,
    HYBRIDS,
    PACKED,
    PLAIN,
    TWO_TOKENS,
    classes_of,
    config_of,
    eva_entry,
    read_preprocess,
    reason_of,
    refused,
    table,
    with_stated,
    written_arguments,
    written_config,
)
from vitrail.checkpoints.origins.timm_entries import TimmEntry
from vitrail.checkpoints.origins.timm_eva import as_plain, own_rules
from vitrail.checkpoints.origins.timm_eva import written as written_eva
from vitrail.checkpoints.origins.timm_naflex import MARK, is_naflex, shown_input
from vitrail.checkpoints.origins.timm_naflex import as_plain as naflex_as_plain
from vitrail.checkpoints.origins.timm_naflex import own_rules as naflex_rules
from vitrail.checkpoints.origins.timm_naflex import written as written_naflex
from vitrail.checkpoints.origins.torch_layout import Layout, Pairs, stages, to_ours, write_rules
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.bit.config import DEPTHS, STEM_WIDTH, BiTConfig
from vitrail.models.names import ModelConfig, PublishedConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count

NAME = "timm"
# Until 2022 the tanh layer before the head had this name; timm has none now.
OLD_PAIRS: Pairs = (
    ("pre_logits.weight", "pre_logits.fc.weight"),
    ("pre_logits.bias", "pre_logits.fc.bias"),
)
UNUSED = {"mask_token": "only for training on masked images"}
VIT_MARK = ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight")
BIT_MARK = ("stem.conv.weight", "stages.0.blocks.0.conv1.weight", "norm.weight")
USUAL = "as most of timm's models, without config.json"
# What timm computes in every hybrid and BiT, whatever the weights were trained with.
HYBRID: dict[str, object] = {"std_eps": 1e-8, "std_form": "inside", "gn_eps": 1e-5}
HELD: dict[str, object] = {
    "final_norm": True,
    "block": "pre",
    "pool": ("cls", "gap", "map"),
    "posemb": ("learned", *COMPUTED),
    "posemb_at": "stem",
    "representation_size": None,
    "map_heads": None,
    "map_mlp_dim": None,
    "stem": ("none", "resnet"),
}
DISTILLED: dict[str, object] = {
    "num_registers": 0,
    "mlp": "gelu",
    "pre_norm": False,
    "stem": ("none",),
}
BIT_SIZES = ("50x1", "50x3", "101x1", "101x3", "152x2", "152x4")  # that timm has
DEFAULT_SIZE = (224, 224)


def recognise(header: Header) -> Recognised | None:
    """timm's config.json, or timm's names and no other library's config.json."""
    values, own = config_of(header), header
    entry = eva_entry(header, values)
    header = _plain(header, values, entry)
    is_variable = header is not own and entry is None
    layout = Layout(header, to_ours(OLD_PAIRS))
    is_vit = all(name in layout.shapes for name in VIT_MARK)
    is_bit = all(name in layout.shapes for name in BIT_MARK)
    if "architecture" not in values and ("model_type" in values or not (is_vit or is_bit)):
        return None
    if not is_vit and not is_bit:
        name = str(values["architecture"])[:60]
        what = reason_of(name) or "no blocks of a Vision Transformer that is known"
        raise refused(header, f"architecture {name!r} has {what}")
    if values and not is_variable:
        layout.header = header = with_stated(header, values)
    config: ModelConfig
    if is_vit:
        fields = layout.fields()
        if values and not is_variable:
            _check_told(header, values, fields)
        config = vit_config(header, **(fields | (HYBRID if fields.get("stem") else {})))
    else:
        config = _bit_config(layout)
    settings = table(values, "pretrained_cfg", values)
    preprocess, notes = read_preprocess(config, settings)
    model, rules = layout.model_and_rules(config, UNUSED)
    if isinstance(config, ViTConfig):
        rules = _own_rules(own, rules, config, entry)
    classes = classes_of(values, config) or labels_of(values, config.num_classes)
    notes += [note for note in [names_left_out(values, config.num_classes)] if note]
    told = values.get("num_classes")
    if told is not None and config.num_classes and told != config.num_classes:
        notes.append(
            f"config.json has num_classes {str(told)[:60]}, the head "
            f"{count(config.num_classes, 'output')}: the head is followed"
        )
    named = values.get("label_names")
    if isinstance(named, list) and not classes:
        notes.append(
            f"label_names of config.json has {count(len(named), 'name')}, the head "
            f"{count(config.num_classes, 'output')}: no name is taken, classes are their numbers"
        )
    if values:
        return Recognised(
            config, rules, preprocess, classes, tuple(notes), model=model, said=layout.said
        )
    return Recognised(
        config,
        rules,
        preprocess,
        classes,
        tuple(notes),
        model=model,
        said=layout.said,
        prepared=Said("assumed", USUAL),
        more=tuple(layout.more),
    )


def _check_told(header: Header, values: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Hold the sizes that config.json tells against the tensors; patches and channels are other
    ones where timm adapts them. Raises ModelError VIT-418.
    """
    told = table(values, "model_args")
    seen = {"embed_dim": fields["width"], "depth": fields["depth"]}
    seen |= {"reg_tokens": fields.get("num_registers", 0)}
    check_agrees(header, told, seen)


def _plain(header: Header, values: Mapping[str, Any], entry: TimmEntry | None) -> Header:
    """The header under the names of timm's VisionTransformer."""
    if entry is not None:
        return as_plain(header)
    return naflex_as_plain(header, values) if is_naflex(header, values) else header


def _own_rules(
    header: Header, rules: list[Rule], config: ViTConfig, entry: TimmEntry | None
) -> list[Rule]:
    """The rules for the file itself, whose names were made those of a VisionTransformer."""
    if entry is not None:
        return own_rules(header, rules, config, entry.rotation)
    return naflex_rules(rules, header, config) if MARK in header.shapes else rules


def _bit_config(layout: Layout) -> BiTConfig:
    """A BiT-ResNet. Raises ModelError VIT-418."""
    width, channels, side = layout.shape("stem.conv.weight", 4)[:3]
    head = layout.shape("head.fc.weight", 4)[0] if "head.fc.weight" in layout.shapes else 0
    fields: dict[str, Any] = {
        "image_size": _size(layout),
        "channels": channels,
        "depths": stages(layout.shapes, "stages."),
        "width_factor": width / STEM_WIDTH,
        "stem": "small" if side == 3 else "imagenet",
        "num_classes": head,
    }
    return bit_config(layout.header, **(fields | HYBRID))


def _size(layout: Layout) -> tuple[int, int]:
    """A ResNet takes any; what config.json says, or the usual one."""
    size = given_size(layout.header)
    if size is None:
        layout.said |= assumed("a ResNet takes any", "image_size")
    return size or DEFAULT_SIZE


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """A folder that timm opens as local-dir:FOLDER. Raises ModelError VIT-417."""
    if isinstance(config, BiTConfig):
        architecture, arguments, rules = _written_bit(config)
    else:
        architecture, arguments, rules = _written_vit(config)
    notes = (
        []
        if architecture
        else ["no entry of timm has this ResNet: config.json names none; build the model by hand"]
    )
    if preprocess.resizer != "pillow":
        notes.append("timm resizes with Pillow: TensorFlow's resize is not kept")
    is_variable = isinstance(config, ViTConfig) and config.max_patches is not None
    size = shown_input(config) if is_variable and isinstance(config, ViTConfig) else None
    described = written_config(
        config, architecture, arguments, preprocess, classes, input_size=size
    )
    text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    return ExportLayout(rules, "safetensors", {"config.json": text.encode()}, notes=tuple(notes))


def _written_vit(config: ViTConfig) -> tuple[str, dict[str, Any], list[Rule]]:
    if config.max_patches is not None:
        return written_naflex(config)
    if config.is_rotary:
        architecture, arguments, rules = written_eva(config)
        return architecture, written_arguments(config) | arguments, rules
    require(NAME, config, HELD)
    if config.distillation_token:
        require(NAME, config, DISTILLED)
        if config.posemb == "learned" and not config.posemb_prefix:
            raise cannot_hold(NAME, "its position table lacks rows for cls and dist")
    if config.stem == "resnet":
        require(NAME, config, HYBRID | {"stem_root": "imagenet", "ln_eps": 1e-6})
    architecture = _architecture(config)
    rules = write_rules(config, ())
    if config.posemb in ("learned_2d", "sincos_2d"):
        rules = _with_table(config, rules)
    return architecture, written_arguments(config), rules


def _architecture(config: ViTConfig) -> str:
    """The entry of timm whose blocks and norms these are; sizes are arguments."""
    if config.stem == "resnet":
        return HYBRIDS.get(config.stem_stages, "") if config.stem_width == STEM_WIDTH else ""
    if config.ln_eps == 1e-6:
        if config.distillation_token:
            return TWO_TOKENS
        return PACKED if config.mlp == "swiglu" else PLAIN
    require(NAME, config, {"ln_eps": 1e-5, "mlp": "gelu", "distillation_token": False})
    return CLIP


def _with_table(config: ViTConfig, rules: list[Rule]) -> list[Rule]:
    """Computed positions become timm's learned table; the patches' kernel takes it along."""
    tokens = ["cls_token", "dist_token"][: int(config.cls_token) + int(config.distillation_token)]
    mine = {"pos_embed_x", "pos_embed_y", "patch_embed.proj.weight", *tokens}
    kernel = next(rule for rule in rules if rule.ours == ("patch_embed.proj.weight",))
    others = [rule for rule in rules if not mine.intersection(rule.ours)]
    return position_rules(config, tokens, "pos_embed", kernel, has_rows=bool(tokens)) + others


def _written_bit(config: BiTConfig) -> tuple[str, dict[str, Any], list[Rule]]:
    require(NAME, config, {"style": "v2", **HYBRID})
    layers = next((str(count) for count, units in DEPTHS.items() if units == config.depths), "")
    size = f"{layers}x{config.width_factor:g}"
    is_known = size in BIT_SIZES and config.stem == "imagenet"
    arguments = {} if config.channels == 3 else {"in_chans": config.channels}
    return f"resnetv2_{size}_bit" if is_known else "", arguments, write_rules(config, ())


TIMM = Origin(NAME, recognise, write, resample="timm", head="head")

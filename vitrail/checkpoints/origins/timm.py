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

from vitrail.checkpoints.catalogue.published import architecture
from vitrail.checkpoints.huggingface.labels import classes_of as labels_of
from vitrail.checkpoints.huggingface.labels import label_notes
from vitrail.checkpoints.mapping.equivalents import COMPUTED, position_rules, require
from vitrail.checkpoints.mapping.fact import Said, assumed
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    bit_config,
    cannot_hold,
    check_agrees,
    given,
    given_size,
    vit_config,
)
from vitrail.checkpoints.mapping.rules import Header, Rule, Shape
from vitrail.checkpoints.origins.timm_config import (
    CLIP,
    HYBRIDS,
    PACKED,
    PLAIN,
    SUPPORTED,
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
from vitrail.checkpoints.origins.torch_layout import (
    BIT_HEAD,
    Layout,
    Pairs,
    stages,
    to_ours,
    write_rules,
)
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
# Arguments of timm 1.0.31 that are followed, held against the tensors, refused
# for all values but one (`timm_config.SUPPORTED`), or change nothing of an answer.
ARGUMENTS = {
    *SUPPORTED,
    *"""
    img_size patch_size in_chans num_classes global_pool embed_dim depth num_heads mlp_ratio
    qkv_bias qk_norm proj_bias init_values class_token pos_embed no_embed_class reg_tokens pre_norm
    fc_norm pool_include_prefix dynamic_img_size act_layer drop_rate pos_drop_rate patch_drop_rate
    proj_drop_rate attn_drop_rate drop_path_rate weight_init fix_init attn_pool_num_heads
    attn_pool_mlp_ratio strict_img_size stem_size stem_type
    """.split(),
}
# What an argument of an entry makes, by the word of a published form; no word: the argument's own.
WORDS = {
    "cls": ("class_token", True),
    "pre": ("pre_norm", True),
    "ls": ("init_values", True),
    "qk": ("qk_norm", True),
    "-qkvb": ("qkv_bias", False),
}
TENSORS = {
    "class_token": "cls_token",
    "pre_norm": "norm_pre.weight",
    "init_values": "ls1.gamma",
    "qk_norm": "attn.q_norm.weight",
    "qkv_bias": "attn.qkv.bias",
}


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
            _check_told(header, values, fields, layout, entry)
        config = vit_config(header, **(fields | (HYBRID if fields.get("stem") else {})))
    else:
        config = _bit_config(layout)
    settings = table(values, "pretrained_cfg", values)
    preprocess, notes = read_preprocess(config, settings)
    model, rules = layout.model_and_rules(config, UNUSED)
    if isinstance(config, ViTConfig):
        rules = _own_rules(own, rules, config, entry)
    classes = classes_of(values, config) or labels_of(values, config.num_classes)
    notes += label_notes(values, config.num_classes)
    notes += notes_of(values, config, classes)
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


def _check_told(
    header: Header,
    values: Mapping[str, Any],
    fields: Mapping[str, Any],
    layout: Layout,
    entry: TimmEntry | None,
) -> None:
    """Hold what config.json tells of the tensors against them, by an argument or by the name of the
    entry; patches and channels are other ones where timm adapts them (`notes_of`).

    Raises ModelError VIT-418.
    """
    told = dict(table(values, "model_args"))
    seen: dict[str, Any] = {"embed_dim": fields["width"], "depth": fields["depth"]}
    if entry is not None:  # its arguments have other names
        check_agrees(header, told, seen)
        return
    for name in sorted(set(told) - ARGUMENTS):
        if told[name] is not None:
            raise refused(header, f"its argument {name} is {str(told[name])[:60]!r}")
    row = architecture(str(values.get("architecture", "")))
    form = row.form.split() if row is not None else []
    own = {name: (word in form) is is_there for word, (name, is_there) in WORDS.items()}
    found = {name: _is_there(layout.shapes, name) for name in own}
    stated = {name: bool(told[name]) for name in own if told.get(name) is not None}
    if not {"norm.weight", "fc_norm.weight"} & set(layout.shapes) and "-norm" not in form:
        seen["final_norm"] = given(header, "final_norm", True) is False
        told = {"final_norm": True, **told}
    check_agrees(header, {**(own if row is not None else {}), **stated}, found)
    ratio, width = told.get("mlp_ratio"), fields["width"]
    rows = layout.shape("blocks.0.mlp.fc1.weight", 2)[0]
    if isinstance(ratio, int | float) and int(width * ratio) != rows:
        raise refused(header, f"mlp_ratio {ratio}, the tensors {rows / width:.4g}: this")
    is_table = "cls_token" in layout.shapes and "pos_embed" in layout.shapes
    if told.get("no_embed_class") is not None and is_table:
        seen["no_embed_class"] = not fields["posemb_prefix"]
    seen["fc_norm"] = "fc_norm.weight" in layout.shapes
    seen["reg_tokens"] = fields.get("num_registers", 0)
    if row is not None and told.get("reg_tokens") is None:
        seen["reg_tokens"], told = seen["reg_tokens"] > 0, told | {"reg_tokens": "reg" in form}
    check_agrees(header, told, seen)


def _is_there(shapes: Mapping[str, Shape], argument: str) -> bool:
    """Whether the tensors that an argument of timm's makes are there."""
    name = TENSORS[argument]
    return any(own == name or own.endswith(f".{name}") for own in shapes)


def notes_of(values: Mapping[str, Any], config: ModelConfig, classes: Sequence[str]) -> list[str]:
    """A sentence for each thing that config.json tells otherwise, and that is not followed."""
    arguments = table(values, "model_args")
    notes = []
    for told in {values.get("num_classes"), arguments.get("num_classes")} - {None}:
        if config.num_classes and told != config.num_classes:
            notes.append(
                f"config.json has num_classes {str(told)[:60]}, the head "
                f"{count(config.num_classes, 'output')}: the head is followed"
            )
    seen: dict[str, Any] = {"in_chans": config.channels}
    if isinstance(config, ViTConfig) and config.stem == "none":
        seen["patch_size"] = config.patch_size
    for name, value in seen.items():
        told = arguments.get(name)
        if told is not None and told != value and [told, told] != [*_pair(value)]:
            notes.append(
                f"config.json has {name} {str(told)[:60]}, the tensors {value}: they are followed"
            )
    named = values.get("label_names")
    if named and not classes:
        what = count(len(named), "name") if isinstance(named, list) else "no list"
        notes.append(
            f"label_names of config.json has {what}, the head "
            f"{count(config.num_classes, 'output')}: no name is taken, classes are their numbers"
        )
    return notes


def _pair(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple) else (value, value)


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
    is_linear = len(layout.shapes.get(BIT_HEAD, ())) == 2
    head = layout.shape(BIT_HEAD, 2 if is_linear else 4)[0] if BIT_HEAD in layout.shapes else 0
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

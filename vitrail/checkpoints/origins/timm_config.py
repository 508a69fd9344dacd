"""timm's config.json: what it says beside the tensors, and how ours is written (`models/_hub.py`).

Source: timm @aa4b585, the arguments of `VisionTransformer` and the entry functions of
`models/vision_transformer.py`, whose activation, norm and blocks are told by their names alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.checkpoints.catalogue.published import architecture as architecture_row
from vitrail.checkpoints.mapping.evaluation_crops import (
    HALF,
    centre_crop,
    crop_fraction,
    squash,
    variable_preprocess,
)
from vitrail.checkpoints.mapping.fact import GIVEN, Said, unknown, with_given
from vitrail.checkpoints.mapping.flexivit import PATCH_PX, SIDE_PX, flexible_fields
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins.timm_entries import TimmEntry
from vitrail.checkpoints.origins.timm_eva import entry_of, ratio_of, stated_of
from vitrail.data.images.preprocess import Preprocess, short_side
from vitrail.errors import ModelError
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig

TANH = "gelu_tanh"
# Architectures of timm whose blocks, positions or poolings are none of ours.
OTHERS: tuple[tuple[str, str], ...] = (
    (r".*_rope_mixed_.*", "rotary positions whose frequencies are learned"),
    (r".*_(rope|dinov3|lingbot|sapiens2)(_.*)?|vit_pe_.*", "rotary positions that nobody checked"),
    (r"eva02_.*", "norms inside a branch"),
    (r"vit_s?relpos_.*|test_vit_relpos|beit.*|samvit_.*", "relative positions"),
    (r".*_(dwee|dlittle|dpwee|pwee|xp|18x2|36x1|mci)(_.*)?", "blocks of another kind"),
    (r"aimv2.*|vitamin_.*", "blocks of another kind"),
    (r"naflexvit_.*", "images of variable resolution with other positions (NaFlex par, rope)"),
)
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": TANH, "quick_gelu": "quick_gelu", "relu": "relu"}
TAG = "vitrail"  # of config.json files that are written here
POOLS = {"token": "cls", "avg": "gap", "map": "map"}
POOL_NAMES = {ours: theirs for theirs, ours in POOLS.items()}
# Arguments of timm's models that change what is computed, and the value that is supported.
SUPPORTED: dict[str, Any] = {
    "norm_layer": None,
    "embed_norm_layer": None,
    "block_fn": None,
    "mlp_layer": None,
    "attn_layer": None,
    "embed_layer": None,
    "final_norm": True,
    "scale_attn_norm": False,
    "scale_mlp_norm": False,
    "dynamic_img_pad": False,
}
POOLS_ALL = ("test_vit3",)  # entries whose attention pooling sees class token and registers
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
PLAIN, PACKED = "vit_base_patch16_224", "vit_giant_patch14_dinov2"
TWO_TOKENS, CLIP = "deit_base_distilled_patch16_224", "vit_base_patch16_clip_224"
HYBRIDS = {
    (): "vit_tiny_r_s16_p8_224",
    (2, 4): "vit_small_r20_s16_p2_224",
    (2, 2, 2): "vit_base_r20_s16_224",
    (2, 2, 2, 2): "vit_small_r26_s32_224",
    (3, 4, 9): "vit_base_r50_s16_224",
    (3, 4, 6, 3): "vit_large_r50_s32_224",
}


def config_of(header: Header) -> Mapping[str, Any]:
    """config.json, or what OpenCLIP's configuration says of an image tower that is timm's."""
    found = header.metadata.get("config.json")
    if isinstance(found, Mapping):
        return found
    open_clip = header.metadata.get("open_clip_config.json")
    whole: Mapping[str, Any] = open_clip if isinstance(open_clip, Mapping) else {}
    vision = table(table(whole, "model_cfg"), "vision_cfg")
    if "timm_model_name" not in vision:
        return {}
    shown, size = table(whole, "preprocess_cfg"), vision.get("image_size", 224)
    sides = size if isinstance(size, list) else [size, size]
    settings = {key: shown[key] for key in ("mean", "std", "interpolation") if key in shown}
    mode = "squash" if shown.get("resize_mode") == "squash" else "center"
    settings |= {"crop_pct": 1.0, "crop_mode": mode, "input_size": [3, *sides]}
    named = vision.get("timm_pool") if vision.get("timm_pool") in POOLS else None
    values = {"architecture": vision["timm_model_name"], "pretrained_cfg": settings}
    return values | ({"global_pool": named} if named else {})


def with_stated(header: Header, values: Mapping[str, Any]) -> Header:
    """The header with what config.json states among what is given; the user's word comes first.

    Raises ModelError VIT-418 for what is not supported.
    """
    arguments = table(values, "model_args")
    architecture = str(values.get("architecture", ""))
    for name, expected in SUPPORTED.items():
        if arguments.get(name, expected) != expected:
            raise refused(header, f"{name} is {str(arguments[name])[:60]!r}")
    entry = eva_entry(header, values)
    if entry is not None:
        stated = stated_of(entry, header, arguments)
    else:
        stated = _of_entry(header, values, arguments)
    if arguments.get("act_layer") is not None:
        stated["gelu"] = one_of(header, "act_layer", arguments["act_layer"], ACTIVATIONS)
    pool = arguments.get("global_pool", values.get("global_pool"))
    if pool is not None and "blocks.0.norm1.weight" in header.shapes:
        stated["pool"] = one_of(header, "global_pool", pool, POOLS)
        is_seen = entry is not None and stated["pool"] == "map"  # Eva's attention pooling sees all
        includes = is_seen or architecture in POOLS_ALL
        includes = arguments.get("pool_include_prefix", includes)
        stated |= _seen_prefix(header, stated["pool"], includes=bool(includes))
    stated |= {key: arguments[key] for key in ("num_heads",) if key in arguments}
    stated |= {"posemb": "none"} if arguments.get("pos_embed") == "none" else {}
    stated |= {"patch_drop": arguments["patch_drop_rate"]} if _drops(arguments) else {}
    size = arguments.get("img_size") or _input_size(table(values, "pretrained_cfg", values))
    stated |= {"image_size": size} if size else {}
    stated |= _flexible(header, architecture, size)
    return with_given(header, stated, Said("file", "config.json"))


def _drops(arguments: Mapping[str, Any]) -> bool:
    """Whether the model was trained with patch dropout."""
    return isinstance(arguments.get("patch_drop_rate"), int | float)


def _flexible(header: Header, architecture: str, size: Any) -> dict[str, Any]:
    """The patch sizes of a FlexiViT, where its weights are still those of 240 px."""
    kernel = tuple(header.shapes.get("patch_embed.proj.weight", ())[2:])
    is_known = kernel == (PATCH_PX, PATCH_PX) and size in (SIDE_PX, [SIDE_PX, SIDE_PX])
    if not (architecture.startswith("flexivit_") and is_known):
        return {}
    side = SIDE_PX // PATCH_PX
    return flexible_fields((PATCH_PX, PATCH_PX), (side, side))


def eva_entry(header: Header, values: Mapping[str, Any]) -> TimmEntry | None:
    """The entry of timm's class Eva, None where it is of another one. Raises ModelError VIT-418."""
    try:
        return entry_of(values, table(values, "model_args"))
    except ValueError as error:
        raise refused(header, f"its argument {error}") from error


def _of_entry(
    header: Header, values: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What the code of timm's entry says that no tensor shows.

    Raises ModelError VIT-418 for one that is not supported, VIT-419 where nobody checked it and
    something is not stated.
    """
    name = str(values.get("architecture", ""))
    if "blocks.0.norm1.weight" not in header.shapes:
        return {}
    if not name and table(values, "pretrained_cfg").get("tag") == TAG:
        return {"ln_eps": 1e-6}  # a stem that no entry has: `timm.py:_architecture`
    row = architecture_row(name)
    what = reason_of(name)
    if row is not None and row.more or row is None and what:
        raise refused(header, f"architecture {name[:60]!r} has {row.more if row else what}")
    if row is None:
        _check_stated(header, name, arguments)
        return {}
    width = header.shapes["blocks.0.norm1.weight"][0]
    is_size = "embed_dim" in arguments or width == row.size[0]
    told = ("gelu", "ln_eps", "pool", "block") + (("num_heads",) if is_size else ())
    return {field: row.function[field] for field in told}


def reason_of(architecture: str) -> str:
    """What an entry of timm has that is not supported, "" where nothing is known of it."""
    return next((what for form, what in OTHERS if re.fullmatch(form, architecture)), "")


def _check_stated(header: Header, name: str, arguments: Mapping[str, Any]) -> None:
    """Raise ModelError VIT-419 for an entry that is in no list, unless the user says what it is."""
    given = header.metadata.get(GIVEN, {})
    told = {
        **({"num_heads": 0} if "num_heads" in arguments else {}),
        **({"gelu": 0} if arguments.get("act_layer") else {}),
        **given,
    }
    missing = [field for field in ("num_heads", "gelu", "ln_eps") if field not in told]
    if missing:
        raise ModelError(
            "VIT-419",
            f"{header.name}: architecture {name[:60]!r} is not among timm's entries that were "
            f"checked; {', '.join(missing)} cannot be told.",
            hint="State what its code has: vitrail convert IN OUT --to vitrail "
            + " ".join(f"--set {field}=..." for field in missing),
            details={"asked": [unknown(field).to_json() for field in missing]},
        )


def read_preprocess(
    config: ModelConfig, settings: Mapping[str, Any]
) -> tuple[Preprocess, list[str]]:
    """timm's evaluation transform from `pretrained_cfg`, and what was assumed.

    crop_mode center: the short side floor(size / crop_pct), then the centre; squash: the whole
    image to that size (timm `data/transforms_factory.py`).
    """
    size, notes = config.image_size, list[str]()
    _check_transform(settings)
    stats = (_numbers(settings.get("mean")), _numbers(settings.get("std")))
    # timm's default is 0.875; where there is no config.json at all, that of its ViTs is 0.9.
    usual = 0.875 if settings or not isinstance(config, ViTConfig) else 0.9
    found = settings.get("crop_pct")
    fraction = float(found) if isinstance(found, int | float) and 0 < found <= 1 else usual
    interpolation = str(settings.get("interpolation"))
    if interpolation not in INTERPOLATIONS:
        interpolation = "bicubic"
    if isinstance(config, ViTConfig) and config.max_patches is not None:  # nothing is cropped
        mean, std = (tuple(values) for values in stats)
        return variable_preprocess(config, interpolation, mean, std), notes
    if settings.get("crop_mode") == "squash" and fraction == 1:
        return squash(size, interpolation, stats, config.channels), notes
    if settings.get("crop_mode") not in (None, "center"):
        notes.append(f"crop_mode {str(settings['crop_mode'])[:20]!r} becomes a crop of the centre")
    short = short_side(min(size), fraction)
    return centre_crop(size, short, interpolation, stats, config.channels), notes


def _check_transform(settings: Mapping[str, Any]) -> None:
    """Raise ModelError VIT-418 for settings that would be left out, though they make other pixels;
    absent and null are as usual.
    """
    crop, named = settings.get("crop_pct"), settings.get("interpolation")
    is_share = isinstance(crop, int | float) and type(crop) is not bool and 0 < crop <= 1
    wrong = [("crop_pct", crop)] if crop is not None and not is_share else []
    wrong += [("interpolation", named)] if named not in (None, *INTERPOLATIONS) else []
    for key in ("mean", "std"):
        if settings.get(key) is not None and not _are_numbers(settings[key]):
            wrong.append((key, settings[key]))
    for key, value in wrong:
        raise ModelError(
            "VIT-418",
            f"config.json has {key} {str(value)[:60]!r}, which no transform of timm's has.",
            hint="Correct it, or remove it: then what is usual is taken, and said.",
        )


def _are_numbers(values: object) -> bool:
    """Whether these are statistics of one channel, or of three."""
    if not isinstance(values, list | tuple) or len(values) not in (1, 3):
        return False
    return all(type(item) in (int, float) for item in values)


def classes_of(values: Mapping[str, Any], config: ModelConfig) -> tuple[str, ...]:
    """`label_names`, where they are as many as the head's outputs."""
    found = values.get("label_names")
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        return ()
    is_whole = len(found) == config.num_classes == len(set(found))
    return tuple(found) if is_whole else ()


def written_config(
    config: ModelConfig,
    architecture: str,
    arguments: Mapping[str, Any],
    preprocess: Preprocess,
    classes: Sequence[str],
    *,
    input_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """config.json as timm's hub functions write and read it. input_size: (height, width) px of a
    model of variable resolution.
    """
    is_vit = isinstance(config, ViTConfig)
    described: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.num_features,
    }
    if isinstance(config, ViTConfig):
        described["global_pool"] = POOL_NAMES[config.pool]
    described |= {"model_args": dict(arguments)} if arguments else {}
    described["pretrained_cfg"] = {
        "tag": TAG,
        "custom_load": False,
        "input_size": [config.channels, *(input_size or config.image_size)],
        "fixed_input_size": is_vit and input_size is None,
        **_written_transform(preprocess),
        "num_classes": config.num_classes,
        "pool_size": None if is_vit else list(_map_size(config)),
        "first_conv": _first_conv(config),
        "classifier": _classifier(config),
    }
    return described | ({"label_names": list(classes)} if classes else {})


def written_arguments(config: ViTConfig) -> dict[str, Any]:
    """Arguments that make timm's VisionTransformer the same network, whatever its entry's own."""
    height, width = config.patch_size
    hidden = config.mlp_dim * (2 if config.mlp == "swiglu" and not config.is_rotary else 1)
    arguments: dict[str, Any] = {
        "img_size": list(config.image_size),
        "patch_size": height if height == width else [height, width],
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": ratio_of(hidden, config.width),
        "in_chans": config.channels,
        "init_values": config.layer_scale,
    }
    if config.is_rotary:
        return arguments | {"global_pool": POOL_NAMES[config.pool]}
    if config.mlp == "gelu":
        arguments["act_layer"] = config.gelu
    if config.qk_norm:
        arguments["qk_norm"] = True
    if config.patch_drop:
        arguments["patch_drop_rate"] = config.patch_drop
    arguments["pre_norm"] = config.pre_norm
    if config.distillation_token:
        return arguments
    return arguments | {
        "class_token": config.cls_token,
        "global_pool": POOL_NAMES[config.pool],
        "fc_norm": config.norm_after_pool,
        "no_embed_class": config.posemb == "learned" and not config.posemb_prefix,
        "reg_tokens": config.num_registers,
        "pos_embed": "none" if config.posemb == "none" else "learn",
        "pool_include_prefix": config.pool == "map" and config.map_prefix and config.num_prefix > 0,
    }


def table(values: Mapping[str, Any], name: str, otherwise: Any = None) -> Mapping[str, Any]:
    """A table inside config.json, or `otherwise`, or an empty one."""
    found = values.get(name, otherwise)
    return found if isinstance(found, Mapping) else {}


def refused(header: Header, what: str) -> ModelError:
    """VIT-418 for a kind of model that is not ours."""
    return ModelError(
        "VIT-418",
        f"{header.name}: {what}, which is not supported.",
        hint="Supported are timm's vit_, deit, deit3, hybrid and resnetv2_*_bit models.",
    )


def one_of(header: Header, name: str, value: object, known: Mapping[str, str]) -> str:
    """Ours for a value of theirs. Raises ModelError VIT-418 for one that is not known."""
    if not isinstance(value, str) or value not in known:
        raise refused(header, f"{name} is {str(value)[:60]!r} (known: {', '.join(known)})")
    return known[value]


def _seen_prefix(header: Header, pool: str, *, includes: bool) -> dict[str, Any]:
    """Whether attention pooling sees class token and registers, where there are any. The mean of
    ours never does. Raises ModelError VIT-418.
    """
    has_prefix = "cls_token" in header.shapes or "reg_token" in header.shapes
    if pool == "gap" and includes and has_prefix:
        raise refused(header, "pool_include_prefix=true with global_pool 'avg'")
    return {"map_prefix": includes} if pool == "map" and has_prefix else {}


def _input_size(settings: Mapping[str, Any]) -> list[int] | None:
    """(height, width) of "input_size": [channels, height, width]."""
    found = settings.get("input_size")
    if isinstance(found, list) and len(found) == 3 and all(type(item) is int for item in found):
        return found[1:]
    return None


def _numbers(values: object) -> Sequence[float]:
    """A mean or deviation of pixels, 0.5 where there is none."""
    if isinstance(values, list | tuple) and _are_numbers(values):
        return [float(item) for item in values]
    return HALF


def _written_transform(preprocess: Preprocess) -> dict[str, Any]:
    is_squash = not isinstance(preprocess.resize, int)
    interpolation = "bilinear" if preprocess.interpolation == "area" else preprocess.interpolation
    fraction = 1.0
    if isinstance(preprocess.resize, int):
        fraction = crop_fraction(min(preprocess.height, preprocess.width), preprocess.resize)
    return {
        "interpolation": interpolation,
        "crop_pct": fraction,
        "crop_mode": "squash" if is_squash else "center",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
    }


def _map_size(config: ModelConfig) -> tuple[int, int]:
    return config.map_size


def _first_conv(config: ModelConfig) -> str:
    if not isinstance(config, ViTConfig):
        return "stem.conv"
    if config.stem == "none":
        return "patch_embed.proj" if config.max_patches is None else "embeds.proj"
    return f"patch_embed.backbone.{'stem.' if config.stem_stages else ''}conv"


def _classifier(config: ModelConfig) -> str | list[str]:
    if not isinstance(config, ViTConfig):
        return "head.fc"
    return ["head", "head_dist"] if config.distillation_token else "head"

"""timm's NaFlexVit: images of variable resolution, as a folder of its hub.

Source: timm 1.0.31 `models/naflexvit.py`. The patches are a linear layer on flattened patches
(rows, columns, channels); the position table (1, h, w, D) is resized to each image, antialiased;
prefix tokens have no positions. Entries that keep the aspect ratio of the table (par), factorise it
(parfac) or turn queries and keys (rope) compute other positions and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from vitrail.checkpoints.mapping.equivalents import ANYTHING, require
from vitrail.checkpoints.mapping.fact import Said, with_given
from vitrail.checkpoints.mapping.origin import cannot_hold, check_agrees
from vitrail.checkpoints.mapping.rules import Header, Rule, patch_rows, renamed, reshaped
from vitrail.checkpoints.origins.timm_config import (
    ACTIVATIONS,
    POOL_NAMES,
    POOLS,
    one_of,
    refused,
    table,
)
from vitrail.checkpoints.origins.timm_eva import ratio_of
from vitrail.models.create import build
from vitrail.models.vit.config import ViTConfig

MARK = "embeds.proj.weight"
PATCH = 16  # of every entry
GRID = (24, 24)  # the budget where pretrained_cfg has no input_size: 384 px in patches of 16
MODES = ("bilinear", "bicubic")


class NaFlexEntry(NamedTuple):
    """What no tensor shows of an entry of timm."""

    width: int
    heads: int
    pool: str
    gelu: str = "gelu"


ENTRIES = {
    "naflexvit_base_patch16_gap": NaFlexEntry(768, 12, "gap"),
    "naflexvit_base_patch16_map": NaFlexEntry(768, 12, "map"),
    "naflexvit_so150m2_patch16_reg1_gap": NaFlexEntry(832, 13, "gap"),
    "naflexvit_so150m2_patch16_reg1_map": NaFlexEntry(832, 13, "map"),
    "naflexvit_base_patch16_siglip": NaFlexEntry(768, 12, "map", "gelu_tanh"),
    "naflexvit_so400m_patch16_siglip": NaFlexEntry(1152, 16, "map", "gelu_tanh"),
}
# Arguments that are followed or shown by the tensors, and those of training only.
FOLLOWED = frozenset(
    """
    patch_size embed_dim depth num_heads mlp_ratio num_classes in_chans init_values global_pool
    class_token reg_tokens pos_embed pos_embed_grid_size pos_embed_interp_mode act_layer fc_norm
    final_norm pool_include_prefix qk_norm qkv_bias pre_norm attn_pool_mlp_ratio drop_rate
    pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate weight_init fix_init
    """.split()
)
HELD: dict[str, object] = {
    "block": "pre",
    "final_norm": True,
    "ln_eps": 1e-6,
    "mlp": "gelu",
    "pool": ("cls", "gap", "map"),
    "posemb_prefix": False,
    "representation_size": None,
    "map_heads": None,
    "pre_norm": False,
    "max_patches": ANYTHING,
}


def is_naflex(header: Header, values: Mapping[str, Any]) -> bool:
    """Whether a folder's config.json names a NaFlexVit that can be read."""
    return MARK in header.shapes and str(values.get("architecture")) in ENTRIES


def as_plain(header: Header, values: Mapping[str, Any]) -> Header:
    """The header under the names of timm's VisionTransformer, with what config.json states of the
    model. Raises ModelError VIT-418 for what is not supported.
    """
    entry = ENTRIES[str(values["architecture"])]
    arguments = {k: v for k, v in table(values, "model_args").items() if v is not None}
    for name in sorted(set(arguments) - FOLLOWED):
        if arguments[name]:
            raise refused(header, f"its argument {name} is {str(arguments[name])[:60]!r}")
    if arguments.get("pos_embed", "learned") != "learned":
        raise refused(header, f"pos_embed is {str(arguments['pos_embed'])[:60]!r}")
    patch = arguments.get("patch_size", PATCH)
    columns, grid = header.shapes[MARK], header.shapes.get("embeds.pos_embed", ())
    if type(patch) is not int or patch < 1 or len(columns) != 2 or columns[1] % (patch * patch):
        raise refused(header, f"patches of {str(patch)[:40]} px in a layer {columns}")
    if len(grid) != 4:
        raise refused(header, "no learned position table (1, h, w, D)")
    shapes = {name.removeprefix("embeds."): shape for name, shape in header.shapes.items()}
    for part in ("weight", "bias"):
        shapes[f"patch_embed.proj.{part}"] = shapes.pop(f"proj.{part}")
    shapes["patch_embed.proj.weight"] = (columns[0], columns[1] // (patch * patch), patch, patch)
    shapes["pos_embed"] = (1, grid[1] * grid[2], grid[3])
    plain = replace(header, shapes=shapes)
    stated = _stated(plain, entry, arguments, values, (patch, (grid[1], grid[2])))
    registers = shapes.get("reg_token", ())
    seen = {
        "reg_tokens": registers[1] if len(registers) == 3 else 0,
        "class_token": "cls_token" in shapes,
    }
    check_agrees(header, arguments, seen)
    return with_given(plain, stated, Said("file", "config.json"))


def _stated(
    header: Header,
    entry: NaFlexEntry,
    arguments: Mapping[str, Any],
    values: Mapping[str, Any],
    pixels: tuple[int, tuple[int, int]],
) -> dict[str, Any]:
    """Fields of the architecture that no tensor shows. pixels: patch and grid of the table."""
    patch, (h, w) = pixels
    width = header.shapes.get("blocks.0.norm1.weight", (0,))[0]
    stated: dict[str, Any] = {
        "image_size": [h * patch, w * patch],
        "gelu": entry.gelu,
        "ln_eps": 1e-6,
        "pool": entry.pool,
        "block": "pre",
        "posemb": "learned",
        "max_patches": _budget(table(values, "pretrained_cfg", values), patch),
        "posemb_resize": one_of(
            header,
            "pos_embed_interp_mode",
            arguments.get("pos_embed_interp_mode", "bicubic"),
            {mode: mode for mode in MODES},
        ),
    }
    if "embed_dim" in arguments or width == entry.width:
        stated["num_heads"] = arguments.get("num_heads", entry.heads)
    if "act_layer" in arguments:
        stated["gelu"] = one_of(header, "act_layer", arguments["act_layer"], ACTIVATIONS)
    pool = arguments.get("global_pool", values.get("global_pool"))
    if pool is not None:
        stated["pool"] = one_of(header, "global_pool", pool, POOLS)
    includes = bool(arguments.get("pool_include_prefix", False))
    has_prefix = "cls_token" in header.shapes or "reg_token" in header.shapes
    if has_prefix and stated["pool"] == "map":
        stated["map_prefix"] = includes
    elif has_prefix and includes:
        raise refused(header, f"pool_include_prefix=true with global_pool {pool!r}")
    return stated


def _budget(settings: Mapping[str, Any], patch: int) -> int:
    """Patches of the image that the weights were evaluated with."""
    size = settings.get("input_size")
    if isinstance(size, list) and len(size) == 3 and all(type(side) is int for side in size):
        return max(4, int(size[1] // patch) * int(size[2] // patch))
    return GRID[0] * GRID[1]


def own_rules(rules: Sequence[Rule], header: Header, config: ViTConfig) -> list[Rule]:
    """The rules of `as_plain`'s header for the file itself."""
    grid = header.shapes["embeds.pos_embed"]
    turned = {rule.ours: rule for rule in _embedding_rules(config, (grid[1], grid[2]))}
    return [turned.get(rule.ours, rule) for rule in rules]


def _embedding_rules(config: ViTConfig, grid: tuple[int, int]) -> list[Rule]:
    turn = patch_rows(config.channels, config.patch_size)
    rows = reshaped(
        (1, config.num_patches, config.width),
        (1, *grid, config.width),
    )
    return [
        renamed("patch_embed.proj.weight", MARK, turn),
        renamed("patch_embed.proj.bias", "embeds.proj.bias"),
        renamed("cls_token", "embeds.cls_token"),
        renamed("reg_token", "embeds.reg_token"),
        renamed("pos_embed", "embeds.pos_embed", rows),
    ]


def written(config: ViTConfig) -> tuple[str, dict[str, Any], list[Rule]]:
    """The entry, its arguments and rules. Raises ModelError VIT-417."""
    require("timm", config, HELD)
    if config.patch_size[0] != config.patch_size[1]:
        raise cannot_hold("timm", f"its patches are square, not {config.patch_size}")
    entry = "naflexvit_base_patch16_" + ("map" if config.pool == "map" else "gap")
    arguments: dict[str, Any] = {
        "patch_size": config.patch_size[0],
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": ratio_of(config.mlp_dim, config.width),
        "in_chans": config.channels,
        "init_values": config.layer_scale,
        "act_layer": config.gelu,
        "qk_norm": config.qk_norm,
        "class_token": config.cls_token,
        "reg_tokens": config.num_registers,
        "global_pool": POOL_NAMES[config.pool],
        "fc_norm": config.norm_after_pool,
        "pool_include_prefix": config.pool == "map" and config.map_prefix and config.num_prefix > 0,
        "pos_embed_grid_size": list(config.grid),
        "pos_embed_interp_mode": config.posemb_resize,
    }
    if config.map_mlp_dim:
        arguments["attn_pool_mlp_ratio"] = ratio_of(config.map_mlp_dim, config.width)
    moved = {rule.ours: rule for rule in _embedding_rules(config, config.grid)}
    names = build(config).state_dict()
    return entry, arguments, [moved.get((name,), renamed(name, name)) for name in names]


def shown_input(config: ViTConfig) -> tuple[int, int]:
    """`input_size` (height, width) px of config.json: as many patches as the budget has, as square
    as they can be.
    """
    budget = config.max_patches or config.num_patches
    rows = next(n for n in range(math.isqrt(budget), 0, -1) if budget % n == 0)
    return rows * config.patch_size[0], budget // rows * config.patch_size[1]

"""Entries of timm's class Eva that ours computes: EVA, EVA02, DINOv3, rope-vit, Perception Encoder.

Source: timm 1.0.31, `models/eva.py` and `layers/pos_embed_sincos.py`. How queries and keys turn is
in no tensor and differs between entries of equal shapes, so that these are read by the name of
their entry and config.json, never as a bare file. Rotation has one layout in our model: in a head
the channels of y before those of x, and the two of a pair half a head apart. Which channel of a
head is which has no meaning beyond that, so rows of query and key are sorted when they are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.mapping.equivalents import require
from vitrail.checkpoints.mapping.origin import cannot_hold
from vitrail.checkpoints.mapping.rules import Header, Rule, Shape, renamed
from vitrail.checkpoints.origins.timm_entries import ENTRIES, Rotation, TimmEntry
from vitrail.checkpoints.origins.torch_layout import Pairs, to_ours, write_rules
from vitrail.models.vit.config import ViTConfig

NAME = "timm"


# Arguments of Eva that the shapes show or that change training only.
SHOWN = frozenset(
    "img_size patch_size in_chans num_classes global_pool embed_dim depth num_heads qkv_bias "
    "qk_norm mlp_ratio swiglu_mlp swiglu_align_to attn_type drop_rate pos_drop_rate "
    "patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate init_values class_token "
    "num_reg_tokens no_embed_class use_abs_pos_emb use_rot_pos_emb rope_type rope_grid_offset "
    "rope_grid_indexing rope_temperature rope_rotate_half use_pre_transformer_norm "
    "use_post_transformer_norm use_fc_norm attn_pool_num_heads attn_pool_mlp_ratio "
    "dynamic_img_size dynamic_img_pad ref_feat_shape head_init_scale norm_layer".split()
)
PAIRS: Pairs = (
    ("blocks.#.ls1.gamma", "blocks.#.gamma_1"),
    ("blocks.#.ls2.gamma", "blocks.#.gamma_2"),
)
# Theirs that lie in one tensor of timm's VisionTransformer, by the end of its name.
JOINED = {
    "attn.qkv.bias": ("attn.q_bias", "attn.v_bias"),
    "mlp.fc1.weight": ("mlp.fc1_g.weight", "mlp.fc1_x.weight"),
    "mlp.fc1.bias": ("mlp.fc1_g.bias", "mlp.fc1_x.bias"),
}
HELD: dict[str, object] = {
    "block": "pre",
    "pool": ("cls", "gap", "map"),
    "posemb_at": "stem",
    "representation_size": None,
    "distillation_token": False,
    "stem": ("none",),
    "gelu": ("gelu",),
    "ln_eps": (1e-6, 1e-5),
    "map_prefix": True,
}
# Entries to write as: timm drops arguments that are None, so these have no layer scale, or no grid.
NO_SCALE = {1e-6: "eva_giant_patch14_224", 1e-5: "vit_pe_spatial_base_patch16_512"}
NO_GRID = {1e-6: "eva_giant_patch14_224", 1e-5: "vit_base_patch16_dinov3"}


def entry_of(values: Mapping[str, Any], arguments: Mapping[str, Any]) -> TimmEntry | None:
    """The entry that config.json names, as its arguments make it. Raises ValueError naming an
    argument that is not supported.
    """
    entry = ENTRIES.get(str(values.get("architecture", "")))
    if entry is None:
        return None
    arguments = {name: value for name, value in arguments.items() if value is not None}
    for name in sorted(set(arguments) - SHOWN):
        raise ValueError(name)
    own = entry.rotation or Rotation()
    found = {
        "kind": arguments.get("rope_type", own.kind),
        "base": arguments.get("rope_temperature", own.base),
        "start": arguments.get("rope_grid_offset", own.start),
        "grid": _pair(arguments.get("ref_feat_shape", own.grid)),
        "order": arguments.get("rope_grid_indexing", own.order),
        "is_halved": arguments.get("rope_rotate_half", own.is_halved),
    }
    known = {"kind": ("cat", "dinov3"), "order": ("ij", "xy"), "is_halved": (True, False)}
    for field, choices in known.items():
        if found[field] not in choices:
            raise ValueError(f"{field} {str(found[field])[:40]!r} of its rotation")
    if found["kind"] == "dinov3":  # reads neither
        found |= {"grid": None}
        if found["start"]:
            raise ValueError("rope_grid_offset with rope_type 'dinov3'")
    turns = arguments.get("use_rot_pos_emb", entry.rotation is not None)
    heads = arguments.get("attn_pool_num_heads", entry.map_heads)
    return entry._replace(rotation=Rotation(**found) if turns else None, map_heads=heads)


def _pair(value: object) -> object:
    """`ref_feat_shape` as (h, w)."""
    if isinstance(value, list):
        return tuple(value)
    return (value, value) if isinstance(value, int) else value


def stated_of(entry: TimmEntry, header: Header, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the architecture that no tensor shows."""
    width = header.shapes["blocks.0.norm1.weight"][0]
    stated: dict[str, Any] = {
        "gelu": "gelu",
        "ln_eps": entry.eps,
        "pool": entry.pool,
        "block": "pre",
    }
    if "embed_dim" in arguments or width == entry.width:
        stated["num_heads"] = entry.heads
    if "attn_pool.latent" in header.shapes:
        heads = arguments.get("num_heads", entry.heads)
        stated["map_heads"] = None if entry.map_heads == heads else entry.map_heads
    turn = entry.rotation
    if turn is None:
        return stated
    stated["posemb"] = "learned_rope_2d" if "pos_embed" in header.shapes else "rope_2d"
    stated["rope_base"] = turn.base
    if turn.kind == "dinov3":
        return stated
    return stated | {"rope": "index", "rope_start": turn.start, "rope_grid": turn.grid}


def as_plain(header: Header) -> Header:
    """The header under the names of timm's VisionTransformer."""
    shapes: dict[str, Shape] = {}
    for name, shape in header.shapes.items():
        shapes[to_ours(PAIRS)(name)] = shape
    for end, parts in JOINED.items():
        count = 3 if end == "attn.qkv.bias" else 2  # there is no bias of the key
        for name in [name for name in shapes if name.endswith(parts[0])]:
            stem = name.removesuffix(parts[0])
            if stem + parts[1] in shapes:
                first, _ = shapes.pop(name), shapes.pop(stem + parts[1])
                shapes[stem + end] = (count * first[0], *first[1:])
    return replace(header, shapes=shapes)


def own_rules(
    header: Header, rules: Sequence[Rule], config: ViTConfig, turn: Rotation | None
) -> list[Rule]:
    """The rules of `as_plain`'s header for the file itself, with query and key sorted."""
    order = channel_order(config.head_dim, turn) if turn else list(range(config.head_dim))
    is_sorted = order == list(range(config.head_dim))
    names = {to_ours(PAIRS)(name): name for name in header.shapes}
    found = []
    for rule in rules:
        if len(rule.theirs) != 1 or not rule.keeps:
            found.append(rule)
            continue
        (plain,) = rule.theirs
        end = next((end for end in JOINED if plain.endswith(end)), "")
        parts = [plain.removesuffix(end) + part for part in JOINED.get(end, ())]
        theirs = parts if plain not in names else [names[plain]]
        is_turned = not is_sorted and re.fullmatch(r"blocks\.\d+\.attn\.qkv\.\w+", plain)
        if len(theirs) == 1 and not is_turned:
            found.append(renamed(rule.ours[0], theirs[0]))
        else:
            found.append(_joined(rule.ours[0], theirs, order if is_turned else [], config))
    return found


def channel_order(head_dim: int, turn: Rotation) -> list[int]:
    """For each channel of ours in a head the one of theirs. head_dim: a multiple of 4."""
    half = head_dim // 2
    shift = head_dim // 4 if turn.order == "xy" else 0
    pairs = [(i + shift) % half for i in range(half)]  # theirs, of our pair i
    if turn.is_halved:
        return [*pairs, *(pair + half for pair in pairs)]
    return [*(2 * pair for pair in pairs), *(2 * pair + 1 for pair in pairs)]


def _joined(ours: str, theirs: Sequence[str], order: list[int], config: ViTConfig) -> Rule:
    """One tensor of one or two of theirs; query and value have zeros for the key between them."""
    has_no_key = len(theirs) == 2 and ours.endswith("qkv.bias")
    back = [order.index(channel) for channel in range(len(order))]

    def read(tensors: list[Tensor]) -> list[Tensor]:
        parts = [tensors[0], torch.zeros_like(tensors[0]), tensors[1]] if has_no_key else tensors
        return [_sorted(torch.cat(parts), order, config.num_heads)]

    def write(tensors: list[Tensor]) -> list[Tensor]:
        whole = _sorted(tensors[0], back, config.num_heads)
        if not has_no_key:
            return list(whole.chunk(len(theirs)))
        query, key, value = whole.chunk(3)
        if key.any():
            raise cannot_hold(NAME, f"{ours} is not zero for the key")
        return [query, value]

    return Rule((ours,), tuple(theirs), read, write)


def _sorted(rows: Tensor, order: list[int], num_heads: int) -> Tensor:
    """rows: (3 D, ...), of query, key and value. Channels of each head of the first two by order,
    where there is one.
    """
    if not order:
        return rows
    heads = rows.view(3, num_heads, len(order), *rows.shape[1:])  # (3, heads, head_dim, ...)
    turned = heads[:2, :, order]
    return torch.cat([turned, heads[2:]]).flatten(0, 2)


def written(config: ViTConfig) -> tuple[str, dict[str, Any], list[Rule]]:
    """The entry, its arguments and rules of a rotary model. Raises ModelError VIT-417."""
    require(NAME, config, HELD)
    if config.posemb_prefix and config.num_registers:
        raise cannot_hold(NAME, "its rotary models have a position row for registers too")
    needs_no_grid = config.rope == "index" and config.rope_grid is None
    if needs_no_grid and config.ln_eps == 1e-5 and config.layer_scale is None:
        raise cannot_hold(
            NAME, "no rotary model with eps 1e-05 lacks both layer scale and rope_grid"
        )
    entry = (NO_GRID if needs_no_grid else NO_SCALE)[config.ln_eps]
    return entry, _arguments(config), write_rules(config, PAIRS)


def _arguments(config: ViTConfig) -> dict[str, Any]:
    """What makes timm's Eva the same network, beside the arguments of every ViT."""
    is_index = config.rope == "index"
    arguments: dict[str, Any] = {
        "attn_type": "rope",
        "qkv_bias": True,
        "swiglu_mlp": config.mlp == "swiglu",
        "class_token": config.cls_token,
        "num_reg_tokens": config.num_registers,
        "no_embed_class": not config.posemb_prefix,
        "use_abs_pos_emb": config.posemb == "learned_rope_2d",
        "use_rot_pos_emb": True,
        "rope_type": "cat" if is_index else "dinov3",
        "rope_temperature": config.rope_base,
        "rope_grid_offset": config.rope_start,
        "rope_grid_indexing": "ij",
        "rope_rotate_half": True,
        "ref_feat_shape": list(config.rope_grid) if config.rope_grid else None,
        "use_pre_transformer_norm": config.pre_norm,
        "use_post_transformer_norm": config.final_norm and not config.norm_after_pool,
        "use_fc_norm": config.norm_after_pool,
        "qk_norm": config.qk_norm,
        "dynamic_img_size": False,
    }
    if config.pool == "map":
        hidden = config.map_mlp_dim or config.mlp_dim
        arguments["attn_pool_num_heads"] = config.map_heads or config.num_heads
        arguments["attn_pool_mlp_ratio"] = ratio_of(hidden, config.width)
    return arguments


def ratio_of(hidden: int, width: int) -> float:
    """A ratio of which timm, which computes int(width * ratio), makes `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width

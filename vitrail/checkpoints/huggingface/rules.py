"""Which tensor of transformers is which of ours, for reading and for writing.

Reading follows the names that a file has; writing makes a file of one class of transformers, with
zeros and ones where that class computes what ours does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.checkpoints.huggingface import names as hf
from vitrail.checkpoints.mapping.equivalents import changed_output, position_rules, with_constant
from vitrail.checkpoints.mapping.rules import Rule, implied, renamed, reshaped
from vitrail.models.vit.config import ViTConfig

HALVES = {"cls": slice(None, 1), "gap": slice(1, None), "cls_gap": slice(None)}


def read_rules(config: ViTConfig, names: hf.Names) -> list[Rule]:
    """Rules for the names of a file."""
    at = f"{names.base}embeddings."
    rules = hf.encoder_rules(config, names)
    if names.is_clip:
        return rules + _clip_rules(config, names, at)
    if names.is_siglip:
        rules += hf.linear("patch_embed.proj", f"{at}patch_embedding")[1:]
        rules += [hf.table_rule(config, f"{at}position_embedding.weight")]
        rules += hf.map_rules(names.base, config.width) if config.pool == "map" else []
        return rules + (hf.linear("head", "classifier") if config.num_classes else [])
    rules += hf.linear("patch_embed.proj", f"{at}patch_embeddings.projection")[1:]
    rules += [renamed("cls_token", f"{at}cls_token")] if config.cls_token else []
    table = f"{at}position_embeddings"
    if config.num_registers and names.norms == hf.VIT.norms:  # DeiT without a head for its token
        rules += [token_as_register(f"{at}distillation_token", table)]
    else:
        rules += [renamed("pos_embed", table)]
        rules += [renamed("reg_token", f"{at}register_tokens")] if config.num_registers else []
    if config.distillation_token:
        return rules + [renamed("dist_token", f"{at}distillation_token"), *_teacher_heads()]
    if config.representation_size:
        rules += hf.linear("pre_logits", f"{names.base}pooler.dense")
    return rules + (hf.linear("head", "classifier") if config.num_classes else [])


def _clip_rules(config: ViTConfig, names: hf.Names, at: str) -> list[Rule]:
    """CLIP's tokens, the norm before the blocks, and what reads them: a classifier, or the
    projection to the space of images and texts, which has no bias.
    """
    width = config.width
    cls = reshaped((1, 1, width), (width,))
    rules = [
        renamed("cls_token", f"{at}class_embedding", cls),
        hf.table_rule(config, f"{at}position_embedding.weight"),
        *hf.linear("norm_pre", f"{names.base}pre_layrnorm"),
    ]
    if not config.num_classes:
        return rules
    if config.pool == "gap":
        return rules + hf.linear("head", "classifier")
    zeros = torch.zeros(config.num_classes)
    return [
        *rules,
        renamed("head.weight", "visual_projection.weight"),
        implied("head.bias", zeros, "zero, as the projection has no bias"),
    ]


def token_as_register(token: str, table: str) -> Rule:
    """DeiT's distillation token, where no head reads it, is a register with its row added.

    The sum is rounded to float32 here, once, as the model itself rounds it in a float32 pass.
    """

    def read(tensors: list[Tensor]) -> list[Tensor]:
        dist, rows = tensors
        return [dist + rows[:, 1:2], torch.cat([rows[:, :1], rows[:, 2:]], dim=1)]

    def write(tensors: list[Tensor]) -> list[Tensor]:
        register, rows = tensors
        return [register, _with_second_row(rows)]

    return Rule(("reg_token", "pos_embed"), (token, table), read, write, adds=True)


def written_vit(config: ViTConfig, base: str, *, has_token: bool) -> list[Rule]:
    """ViT and DeiT. has_token: DeiT's distillation token is there."""
    at = f"{base}embeddings."
    table = f"{at}position_embeddings"
    rules = hf.encoder_rules(config, hf.VIT.below(base))
    bias = renamed("patch_embed.proj.bias", f"{at}patch_embeddings.projection.bias")
    tokens = [f"{at}cls_token"]
    if config.distillation_token:
        tokens += [f"{at}distillation_token"]
        rules += position_rules(config, tokens, table, bias, has_rows=True)
        return rules + _teacher_heads()
    positions = position_rules(config, tokens, table, bias, has_rows=True)
    if has_token:
        rules += [renamed("reg_token", f"{at}distillation_token")]
        positions = changed_output(positions, table, _with_second_row)
    rules += positions
    if config.representation_size:
        rules += hf.linear("pre_logits", f"{base}pooler.dense")
    return rules + (hf.linear("head", "classifier") if config.num_classes else [])


def written_dino(config: ViTConfig, base: str) -> list[Rule]:
    """DINOv2, with registers or without."""
    at = f"{base}embeddings."
    names = hf.DINO.below(base, hf.PACKED if config.mlp == "swiglu" else hf.DINO.mlp)
    rules = hf.encoder_rules(config, names)
    if config.layer_scale is None:
        rules = _with_ones(config, rules, names)
    bias = renamed("patch_embed.proj.bias", f"{at}patch_embeddings.projection.bias")
    bias = with_constant(bias, f"{at}mask_token", torch.zeros(1, config.width))
    tokens, table = [f"{at}cls_token"], f"{at}position_embeddings"
    rules += position_rules(config, tokens, table, bias, has_rows=True)
    rules += [renamed("reg_token", f"{at}register_tokens")] if config.num_registers else []
    if not config.num_classes:
        return rules
    return [*rules, _half_head(config), renamed("head.bias", "classifier.bias")]


def written_siglip(config: ViTConfig, base: str) -> list[Rule]:
    """SigLIP's image tower."""
    at = f"{base}embeddings."
    rules = hf.encoder_rules(config, hf.siglip_names(config).below(base))
    rules += hf.map_rules(base, config.width) if config.pool == "map" else []
    bias = renamed("patch_embed.proj.bias", f"{at}patch_embedding.bias")
    table = f"{at}position_embedding.weight"
    positions = position_rules(config, [], table, bias, has_rows=False)
    rules += changed_output(positions, table, lambda rows: rows[0])  # (P, D)
    return rules + (hf.linear("head", "classifier") if config.num_classes else [])


def _teacher_heads() -> list[Rule]:
    return [
        *hf.linear("head", "cls_classifier"),
        *hf.linear("head_dist", "distillation_classifier"),
    ]


def _with_second_row(rows: Tensor) -> Tensor:
    """A row of zeros after that of the class token."""
    return torch.cat([rows[:, :1], torch.zeros_like(rows[:, :1]), rows[:, 1:]], dim=1)


def _with_ones(config: ViTConfig, rules: list[Rule], names: hf.Names) -> list[Rule]:
    """Layer scales of one, beside the bias of the norm before each branch."""
    ones = torch.ones(config.width)
    for index in range(config.depth):
        start = f"{names.base}{names.layer}.{index}."
        for number, norm in zip("12", names.norms, strict=True):
            scale = f"{start}layer_scale{number}.lambda1"
            beside = (f"{start}{norm}.bias",)
            rules = [
                with_constant(rule, scale, ones) if rule.theirs == beside else rule
                for rule in rules
            ]
    return rules


def _half_head(config: ViTConfig) -> Rule:
    """The head's columns for class token and mean, zeros where ours does not read."""

    def read(tensors: list[Tensor]) -> list[Tensor]:
        halves = tensors[0].reshape(-1, 2, config.width)  # (K, 2, D)
        return [halves[:, HALVES[config.pool]].flatten(1)]

    def write(tensors: list[Tensor]) -> list[Tensor]:
        halves = tensors[0].new_zeros(config.num_classes, 2, config.width)
        halves[:, HALVES[config.pool]] = tensors[0].reshape(config.num_classes, -1, config.width)
        return [halves.flatten(1)]

    return Rule(("head.weight",), ("classifier.weight",), read, write)

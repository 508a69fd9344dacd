"""Tensors that change what a model computes and that ours does not have, by their names.

Rotary and relative positions, own biases of query and value, norms inside a branch: a file with
them is refused with the word for it. A file without a position table is no model without positions:
almost none is trained, but rotary and relative positions are computed and leave no table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vitrail.checkpoints.mapping.fact import sources_of
from vitrail.checkpoints.mapping.origin import given, given_size
from vitrail.checkpoints.mapping.rules import Header, Shape, listed
from vitrail.errors import ModelError
from vitrail.models.vit.fields import ROTARY

PARTS: tuple[tuple[str, str], ...] = (
    (
        r"(.*\.)?(lora_[AB]|lora_embedding_[AB]|adapter\w*)(\..*)?",
        "an adapter: merge it first (merge_and_unload)",
    ),
    (
        r"(.*\.)?(rope|rope_embed|rotary\w*|rot_emb)(\..*)?|(.*\.)?freqs(_cos|_sin)?",
        "rotary positions (DINOv3, rope-vit, EVA02)",
    ),
    (r"(.*\.)?storage_tokens", "storage tokens (DINOv3)"),
    (
        r"embeds\.(proj|pos_embed|cls_token|reg_token)(\.\w+)?",
        "images of variable resolution (NaFlex)",
    ),
    (r"(.*\.)?(\w*rel_pos\w*|relative_position\w*)(\..*)?", "relative positions (BEiT, SAM)"),
    (r"(.*\.)?(q_bias|k_bias|v_bias)", "biases of query and value of their own (BEiT, EVA)"),
    (r"(.*\.)?lambda_[qk]\d", "differential attention"),
    (
        r"(.*\.)?(attns|ffns)\.\d+\..*|(.*\.)?(in_norm|in_proj|mlp_bias|out_proj|attn_out_proj|"
        r"mlp_out_proj)(\.\w+)?",
        "parallel branches of a block",
    ),
    (r"(.*\.)?blocks\.\d+\.(attn|mlp)\.(norm|scale)\.\w+", "norms inside a branch (EVA02, BEiT-3)"),
    (r"(.*\.)?(fc1_g|fc1_x)\.\w+", "a gated MLP with two first layers (EVA02, AIMv2, DINOv3)"),
)
COMPILED = tuple((re.compile(form), what) for form, what in PARTS)
# That lie below the blocks of ours under these very names.
OURS = re.compile(r"(.*\.)?attn_pool\..*")


def part_of(name: str) -> str:
    """What a tensor of this name is, "" where the name is not known."""
    if OURS.fullmatch(name):
        return ""
    return next((what for form, what in COMPILED if form.fullmatch(name)), "")


def why_unknown(header: Header) -> str:
    """What the tensors of a file that no layout fits are, "" where their names say nothing."""
    found: dict[str, str] = {}
    for name in header.shapes:
        if what := part_of(name):
            found.setdefault(what, name)
    return "; ".join(f"{what}: {name}" for what, name in found.items())


def check_parts(header: Header, shapes: Mapping[str, Shape]) -> None:
    """Raise ModelError VIT-418 for a ViT with something that ours does not have. shapes: of the
    tensors under our names.
    """
    found: dict[str, list[str]] = {}
    for name in shapes:
        if what := part_of(name):
            found.setdefault(what, []).append(name)
    if "blocks.0.norm1.weight" in shapes and "blocks.0.norm1.bias" not in shapes:
        found["RMS norms (without bias)"] = ["blocks.0.norm1.weight"]
    if turns_as_told(header):
        pass
    elif "norm_pre.weight" in shapes and "attn_pool.latent" in shapes:
        found["rotary positions (Perception Encoder)"] = ["norm_pre.weight", "attn_pool.latent"]
    elif "norm_pre.weight" in shapes and not {"norm.weight", "fc_norm.weight"} & set(shapes):
        found["rotary positions (Perception Encoder)"] = ["norm_pre.weight"]
    if found:
        lines = [f"  {what}: {listed(names)}" for what, names in found.items()]
        raise ModelError(
            "VIT-418",
            f"{header.name} holds what is not supported:\n" + "\n".join(lines),
            hint="Without them the model would compute something else, so they are never left out.",
        )


def turns_as_told(header: Header) -> bool:
    """Whether the file itself says that the model is rotary, and how."""
    told = sources_of(header).get("posemb")
    is_told = told is not None and told.source == "file"
    return is_told and given(header, "posemb", None) in ROTARY


def size_without_table(header: Header, shapes: Mapping[str, Shape]) -> tuple[int, int]:
    """The image size that is stated for a file without a position table.

    Raises ModelError VIT-418 where the other tensors are those of rotary models, VIT-420 where
    posemb=none or the size is not stated.
    """
    has_marks = any(
        name.endswith(("gamma_1", "reg_token", "norm_pre.weight"))
        for name in (*shapes, *header.shapes)
    )
    told = sources_of(header).get("posemb")
    is_told = told is not None and told.source == "file"
    if has_marks and not is_told:
        raise ModelError(
            "VIT-418",
            f"{header.name} has no position table, but the tensors of a model with rotary "
            "positions (DINOv3, rope-vit, Perception Encoder).",
            hint="How they turn is in no tensor: read the folder of timm's hub, whose config.json "
            "names the model. Without them it would be another model.",
        )
    size = given_size(header)
    if given(header, "posemb", None) != "none" and not turns_as_told(header):
        raise ModelError(
            "VIT-420",
            f"{header.name} has no position table. Models with rotary or relative positions have "
            "none either; that this one has no positions at all is not in the file.",
            hint="Only if it was trained without positions: --set posemb=none "
            "--set image_size=HEIGHTxWIDTH",
        )
    if size is None:
        raise ModelError(
            "VIT-420",
            f"{header.name} has no position table, and does not say the image size.",
            hint="Name it in pixels: --set image_size=HEIGHTxWIDTH",
        )
    return size

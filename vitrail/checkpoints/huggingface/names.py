"""Names of transformers' Vision Transformers: ViT and what has its names (MSN, MAE, I-JEPA), DeiT,
DINOv2 (with registers), the towers of SigLIP and CLIP.

Source: transformers 5.23 `models/{vit,deit,dinov2,dinov2_with_registers,siglip,clip}` and its
`conversion_mapping.py`. Version 5 renamed modules in memory (`layers.0.attention.q_proj`) and still
saves under the names of version 4 (`encoder.layer.0.attention.attention.query`). Both are read, in
any mixture; the old ones are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vitrail.checkpoints.mapping.rules import (
    SAME,
    Rule,
    Shape,
    ignored,
    implied,
    joined,
    patch_rows,
    renamed,
    reshaped,
)
from vitrail.models.vit.config import ViTConfig

# Of each part of a layer, the names in use; the first are written for ViT and DeiT.
LAYERS = ("encoder.layer", "layers", "encoder.layers")
ATTENTION = (
    tuple(f"attention.attention.{name}" for name in ("query", "key", "value")),
    tuple(f"attention.{name}_proj" for name in "qkv"),
    tuple(f"self_attn.{name}_proj" for name in "qkv"),
)
OUTPUT = ("attention.output.dense", "attention.o_proj", "self_attn.out_proj")
NORMS = (
    ("layernorm_before", "layernorm_after"),
    ("norm1", "norm2"),
    ("layer_norm1", "layer_norm2"),
)
MLP = (("intermediate.dense", "output.dense"), ("mlp.fc1", "mlp.fc2"))
# DINOv2's SwiGLU: gate and value packed as ours, or apart.
PACKED, APART = ("mlp.weights_in", "mlp.weights_out"), ("mlp.gate_proj", "mlp.up_proj")
APART_OUT = "mlp.down_proj"
POOLER = r"(?:.*\.)?pooler\.dense\.\w+"
# What a classifier does without.
UNUSED = {
    r"(?:.*\.)?embeddings\.mask_token": "only for training on masked images",
    r"(?:.*\.)?embeddings\.position_ids": "numbers, not weights",
    POOLER: "the classifier does not read the pooler",
    r"vision_model\.head\..*": "the classifier reads the mean, not the attention pooling",
    r"decoder\..*": "makes pixels again, for training on masked images",
    r"text_model\..*|text_projection\.weight|logit_scale|logit_bias": "of the text tower",
    r"(?:.*\.)?post_layernorm\.\w+": "the classifier reads the tokens before this norm",
}


@dataclass(frozen=True)
class Names:
    """Names of one file. base: "vit." or ""; above: what stands before `layer`, which is the base,
    but "" in MSN's classifier; has_bias: of query, key and value; is_clip: of SigLIP's names, with
    a class token and a norm before the blocks; is_linear: patches by a linear layer (NaFlex).
    """

    base: str
    layer: str
    attention: tuple[str, ...]
    output: str
    norms: tuple[str, str]
    mlp: tuple[str, ...]
    has_bias: bool = True
    is_clip: bool = False
    is_linear: bool = False
    above: str | None = None

    @property
    def layers(self) -> str:
        """What stands before the number of a layer."""
        return f"{self.base if self.above is None else self.above}{self.layer}."

    @property
    def is_siglip(self) -> bool:
        """Whether these are SigLIP's, whose embeddings and last norm have other names too."""
        return self.layer == "encoder.layers"

    def below(self, base: str, mlp: tuple[str, ...] = ()) -> Names:
        """These names below another base, with other names of the MLP where given."""
        return replace(self, base=base, mlp=mlp or self.mlp)


VIT = Names("", LAYERS[0], ATTENTION[0], OUTPUT[0], NORMS[0], MLP[0])
DINO = Names("", LAYERS[0], ATTENTION[0], OUTPUT[0], NORMS[1], MLP[1])
SIGLIP = Names("vision_model.", LAYERS[2], ATTENTION[2], OUTPUT[2], NORMS[2], MLP[1])


def siglip_names(config: ViTConfig) -> Names:
    """SigLIP's names, or those of SigLIP 2 NaFlex."""
    return replace(SIGLIP, is_linear=config.max_patches is not None)


def names_of(shapes: Mapping[str, Shape]) -> Names | None:
    """The names in use in a file; None where it is none of these models."""
    kernels = [
        match[1]
        for name in shapes
        if (
            match := re.fullmatch(r"(.*)embeddings\.patch_embeddings?(\.projection)?\.weight", name)
        )
    ]
    if not kernels:
        return None
    base = kernels[0]

    def first(options: Sequence[tuple[str, ...]], prefix: str) -> tuple[str, ...]:
        found = (o for o in options if all(f"{prefix}{name}.weight" in shapes for name in o))
        return next(found, options[0])

    layers = (
        (above, name)
        for above in (base, "")
        for name in LAYERS
        if any(key.startswith(f"{above}{name}.0.") for key in shapes)
    )
    above, layer = next(layers, (base, LAYERS[0]))
    start = f"{above}{layer}.0."
    attention = first(ATTENTION, start)
    norms = first(NORMS, start)
    return Names(
        base,
        layer,
        attention,
        first([(name,) for name in OUTPUT], start)[0],
        (norms[0], norms[1]),
        first([*MLP, PACKED, (*APART, APART_OUT)], start),
        f"{start}{attention[0]}.bias" in shapes or f"{start}{attention[0]}.weight" not in shapes,
        f"{base}embeddings.class_embedding" in shapes,
        len(shapes.get(f"{base}embeddings.patch_embedding.weight", ())) == 2,
        above,
    )


def linear(ours: str, theirs: str) -> list[Rule]:
    """Weight and bias."""
    return [
        renamed(f"{ours}.weight", f"{theirs}.weight"),
        renamed(f"{ours}.bias", f"{theirs}.bias"),
    ]


def encoder_rules(config: ViTConfig, names: Names) -> list[Rule]:
    """The blocks, the patches' kernel and the final norm."""
    kernel = "patch_embedding" if names.is_siglip else "patch_embeddings.projection"
    turn = patch_rows(config.channels, config.patch_size) if names.is_linear else SAME
    rules = [renamed("patch_embed.proj.weight", f"{names.base}embeddings.{kernel}.weight", turn)]
    for index in range(config.depth):
        rules += layer_rules(config, names, index)
    final = "post_layernorm" if names.is_siglip else "layernorm"
    return rules + (linear("norm", f"{names.base}{final}") if config.final_norm else [])


def layer_rules(config: ViTConfig, names: Names, index: int) -> list[Rule]:
    """One block."""
    ours, theirs = f"blocks.{index}.", f"{names.layers}{index}."
    qkv = f"{ours}attn.qkv"
    rules = linear(f"{ours}norm1", f"{theirs}{names.norms[0]}")
    rules += [joined(f"{qkv}.weight", [f"{theirs}{name}.weight" for name in names.attention])]
    if names.has_bias:
        rules += [joined(f"{qkv}.bias", [f"{theirs}{name}.bias" for name in names.attention])]
    else:
        rules += [implied(f"{qkv}.bias", torch.zeros(3 * config.width), "zero")]
    rules += linear(f"{ours}attn.proj", f"{theirs}{names.output}")
    rules += linear(f"{ours}norm2", f"{theirs}{names.norms[1]}")
    *hidden, last = names.mlp
    for part in ("weight", "bias"):
        rules += [joined(f"{ours}mlp.fc1.{part}", [f"{theirs}{name}.{part}" for name in hidden])]
    rules += linear(f"{ours}mlp.fc2", f"{theirs}{last}")
    if config.layer_scale is not None:
        for number in "12":
            theirs_scale = f"{theirs}layer_scale{number}.lambda1"
            rules += [renamed(f"{ours}ls{number}.gamma", theirs_scale)]
    return rules


def map_rules(base: str, width: int) -> list[Rule]:
    """SigLIP's attention pooling: torch's MultiheadAttention, query, key and value in one."""
    attention = f"{base}head.attention"
    rules = [renamed("attn_pool.latent", f"{base}head.probe")]
    rules += [
        Rule(
            (f"attn_pool.q.{part}", f"attn_pool.kv.{part}"),
            (f"{attention}.in_proj_{part}",),
            lambda tensors: [tensors[0][:width], tensors[0][width:]],
            lambda tensors: [torch.cat(tensors)],
        )
        for part in ("weight", "bias")
    ]
    rules += linear("attn_pool.proj", f"{attention}.out_proj")
    rules += linear("attn_pool.norm", f"{base}head.layernorm")
    for layer in ("fc1", "fc2"):
        rules += linear(f"attn_pool.mlp.{layer}", f"{base}head.mlp.{layer}")
    return rules


def unused_rules(shapes: Mapping[str, Shape], rules: Sequence[Rule]) -> list[Rule]:
    """Rules for tensors that a classifier does without, each with the reason."""
    known = {name for rule in rules for name in rule.theirs}
    has_head = "classifier.weight" in shapes or "cls_classifier.weight" in shapes
    return [
        ignored(name, reason)
        for name in shapes
        for pattern, reason in UNUSED.items()
        if name not in known and re.fullmatch(pattern, name) and (has_head or pattern != POOLER)
    ]


def table_rule(config: ViTConfig, name: str) -> Rule:
    """SigLIP's and CLIP's position table, an embedding (rows, D)."""
    rows = (config.posemb_rows, config.width)
    return renamed("pos_embed", name, reshaped((1, *rows), rows))


def numbered(shapes: Mapping[str, Shape], names: Names) -> int:
    """How many layers a file holds."""
    pattern: Callable[[str], re.Match[str] | None] = re.compile(
        rf"{re.escape(names.layers)}(\d+)\."
    ).match
    return len({match[1] for name in shapes if (match := pattern(name))})

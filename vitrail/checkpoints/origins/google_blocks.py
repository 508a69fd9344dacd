"""Names of the Flax modules that Google's Vision Transformers share: blocks, MAP head, ResNet.

Sources: google-research/vision_transformer `models_vit.py` and `models_resnet.py`, big_vision
`models/vit.py` and `models/bit.py`. Both repositories number the modules of a block, in one case in
the order of all calls, in the other by class; the arrays are the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from vitrail.checkpoints.mapping.rules import (
    CONV,
    DENSE,
    SAME,
    Rule,
    Shape,
    Transform,
    heads_in,
    heads_out,
    joined,
    renamed,
    reshaped,
    stacked,
)

SCAN = "Transformer/encoderblock/"  # all blocks in one, stacked along a first axis


class BlockNames(NamedTuple):
    """Modules of one encoder block."""

    norm1: str
    attention: str
    norm2: str
    mlp: str


# vision_transformer: numbered in the order of calls. big_vision: by class.
CALL_ORDER = BlockNames(
    "LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"
)
CLASS_ORDER = BlockNames(
    "LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"
)


def dense(ours: str, theirs: str) -> list[Rule]:
    """A dense layer."""
    return [
        renamed(f"{ours}.weight", f"{theirs}/kernel", DENSE),
        renamed(f"{ours}.bias", f"{theirs}/bias"),
    ]


def norm(ours: str, theirs: str, transform: Transform = SAME) -> list[Rule]:
    """A LayerNorm or GroupNorm."""
    return [
        renamed(f"{ours}.weight", f"{theirs}/scale", transform),
        renamed(f"{ours}.bias", f"{theirs}/bias", transform),
    ]


def mlp(ours: str, theirs: str) -> list[Rule]:
    """The two dense layers of a block or of the MAP head."""
    return [*dense(f"{ours}.fc1", f"{theirs}/Dense_0"), *dense(f"{ours}.fc2", f"{theirs}/Dense_1")]


def projections(ours: str, theirs: str, names: Sequence[str], width: int, heads: int) -> list[Rule]:
    """One dense layer of ours for several of theirs: (D, heads, head_dim) kernels, one below the
    other."""
    by_head = reshaped((width,), (heads, width // heads))
    return [
        joined(f"{ours}.weight", [f"{theirs}/{name}/kernel" for name in names], heads_out(heads)),
        joined(f"{ours}.bias", [f"{theirs}/{name}/bias" for name in names], by_head),
    ]


def output(ours: str, theirs: str, heads: int) -> list[Rule]:
    """The projection after the attention, kernel (heads, head_dim, D)."""
    return [
        renamed(f"{ours}.weight", f"{theirs}/out/kernel", heads_in(heads)),
        renamed(f"{ours}.bias", f"{theirs}/out/bias"),
    ]


def block(ours: str, theirs: str, names: BlockNames, width: int, heads: int) -> list[Rule]:
    """One encoder block."""
    attention = f"{theirs}{names.attention}"
    return [
        *norm(f"{ours}.norm1", f"{theirs}{names.norm1}"),
        *projections(f"{ours}.attn.qkv", attention, ("query", "key", "value"), width, heads),
        *output(f"{ours}.attn.proj", attention, heads),
        *norm(f"{ours}.norm2", f"{theirs}{names.norm2}"),
        *mlp(f"{ours}.mlp", f"{theirs}{names.mlp}"),
    ]


def blocks(
    names: BlockNames, depth: int, width: int, heads: int, *, is_scan: bool = False
) -> list[Rule]:
    """All encoder blocks and the final norm."""
    theirs = [SCAN if is_scan else f"Transformer/encoderblock_{i}/" for i in range(depth)]
    layers = [block(f"blocks.{i}", theirs[i], names, width, heads) for i in range(depth)]
    final = norm("norm", "Transformer/encoder_norm")
    if not is_scan:
        return [rule for layer in layers for rule in layer] + final
    return [stacked(form, form[0].theirs) for form in zip(*layers, strict=True)] + final


def map_head(width: int, heads: int) -> list[Rule]:
    """Attention pooling, `MAPHead` of big_vision."""
    attention = "MAPHead_0/MultiHeadDotProductAttention_0"
    return [
        renamed("attn_pool.latent", "MAPHead_0/probe"),
        *projections("attn_pool.q", attention, ("query",), width, heads),
        *projections("attn_pool.kv", attention, ("key", "value"), width, heads),
        *output("attn_pool.proj", attention, heads),
        *norm("attn_pool.norm", "MAPHead_0/LayerNorm_0"),
        *mlp("attn_pool.mlp", "MAPHead_0/MlpBlock_0"),
    ]


def resnet(root: str, body: str, stages: Sequence[int], shapes: Mapping[str, Shape]) -> list[Rule]:
    """Root and stages of the ResNet with GroupNorm, alone or below a Vision Transformer.

    root, body: prefixes of our names; stages: units of each stage. shapes: of their tensors where
    there is a file.
    """
    rules = _standardised(root, "", "conv_root", "gn_root", shapes)
    for stage, units in enumerate(stages):
        for unit in range(units):
            ours = f"{body}stages.{stage}.blocks.{unit}."
            theirs = f"block{stage + 1}/unit{unit + 1}/"
            for n in "123":
                rules += _standardised(ours, n, f"{theirs}conv{n}", f"{theirs}gn{n}", shapes)
            if unit == 0:
                down = f"{ours}downsample."
                rules += _standardised(down, "", f"{theirs}conv_proj", f"{theirs}gn_proj", shapes)
    return rules


def _standardised(
    ours: str, number: str, conv: str, group_norm: str, shapes: Mapping[str, Shape]
) -> list[Rule]:
    """A convolution and its GroupNorm, which old files hold as (1, 1, 1, C)
    (vision_transformer `checkpoint.py:_fix_groupnorm`)."""
    shape = shapes.get(f"{group_norm}/scale", ())
    flat = reshaped(shape[-1:], shape) if len(shape) == 4 else SAME
    kernel = renamed(f"{ours}conv{number}.weight", f"{conv}/kernel", CONV)
    return [kernel, *norm(f"{ours}norm{number}", group_norm, flat)]


def rooted(rules: Sequence[Rule], actual: Callable[[str], str]) -> list[Rule]:
    """The rules with their names as one file has them."""
    return [replace(rule, theirs=tuple(actual(name) for name in rule.theirs)) for rule in rules]


def stages_in(names: Sequence[str]) -> tuple[int, ...]:
    """Units of each stage of the ResNet, () for the root alone. names: without the file's root."""
    found = [
        int(match[1])
        for name in names
        if (match := re.fullmatch(r"block([0-9]{1,3})/unit[0-9]{1,3}/conv1/kernel", name))
    ]
    return tuple(count for _, count in sorted(Counter(found).items()))

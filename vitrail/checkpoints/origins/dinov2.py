"""Files of facebookresearch/dinov2 @b8931f7: backbones, with registers or SwiGLU, and linear heads.

A backbone is a bare state dict without a head. With `dinov2_*_linear_head.pth` (one layer) it is a
classifier on the class token beside the mean of the patches; torch.hub's classifiers hold both as
`backbone.*` and `linear_head.*`, which is how such a model is read and written here. Training files
number blocks as blocks.CHUNK.BLOCK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vitrail.checkpoints.mapping.equivalents import COMPUTED, ENCODER, position_rules, require
from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET, centre_crop
from vitrail.checkpoints.mapping.fact import Said
from vitrail.checkpoints.mapping.head_beside import is_beside
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    cannot_hold,
    vit_config,
)
from vitrail.checkpoints.mapping.rules import Header, Rule
from vitrail.checkpoints.origins.torch_layout import Layout, Pairs, to_ours, write_rules
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.models.names import PublishedConfig
from vitrail.models.vit.config import ViTConfig

NAME = "dinov2"
BACKBONE, HEAD = "backbone.", "linear_head."
PAIRS: Pairs = (
    ("reg_token", "register_tokens"),
    ("blocks.#.mlp.fc1.weight", "blocks.#.mlp.w12.weight"),
    ("blocks.#.mlp.fc1.bias", "blocks.#.mlp.w12.bias"),
    ("blocks.#.mlp.fc2.weight", "blocks.#.mlp.w3.weight"),
    ("blocks.#.mlp.fc2.bias", "blocks.#.mlp.w3.bias"),
)
MARKS = ("mask_token", "register_tokens", "blocks.0.mlp.w12.weight")
UNUSED = {"mask_token": "only for training on masked images"}
FIXED: dict[str, object] = {"ln_eps": 1e-6, "gelu": "gelu"}
HELD: dict[str, object] = {
    **FIXED,
    **ENCODER,
    "drop_rest": False,
    "posemb": ("learned", *COMPUTED),
    "cls_token": True,
    "representation_size": None,
    "distillation_token": False,
    "stem": ("none",),
}


def recognise(header: Header) -> Recognised | None:
    """DINOv2's names, of a backbone alone or with a linear head."""
    if "config.json" in header.metadata:
        return None
    backbone = BACKBONE if any(name.startswith(HEAD) for name in header.shapes) else ""
    if not any(f"{backbone}{mark}" in header.shapes for mark in MARKS) or not any(
        name.startswith(f"{backbone}blocks.0.") for name in header.shapes
    ):
        return None
    layout = Layout(header, _ours(header, backbone), style=NAME, like="DINOv2")
    fields = layout.fields()
    num_inputs = layout.shape("head.weight", 2)[1] if "head.weight" in layout.shapes else 0
    is_own = num_inputs and not is_beside(header)  # a wrapper's head reads what the backbone gives
    if is_own:
        fields["pool"] = "cls_gap"
        _check_head(header, num_inputs, int(str(fields["width"])))
    config = vit_config(header, **fields)
    model, rules = layout.model_and_rules(config, UNUSED)
    return Recognised(
        config,
        rules,
        evaluation_of(config),
        resample="dino_registers" if config.num_registers else "dino",
        model=model,
        said=layout.said,
        more=tuple(layout.more),
        prepared=Said("assumed", "as DINOv2 evaluates, at this size"),
    )


def _ours(header: Header, backbone: str) -> Callable[[str], str]:
    """Their name to ours, without the chunks of blocks."""
    plain = to_ours(PAIRS)
    is_chunked = any(re.match(r"(backbone\.)?blocks\.\d+\.\d+\.", name) for name in header.shapes)

    def ours(name: str) -> str:
        if name.startswith(HEAD):
            return "head." + name.removeprefix(HEAD)
        name = name.removeprefix(backbone)
        if is_chunked:
            name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)
        return plain(name)

    return ours


def _check_head(header: Header, num_inputs: int, width: int) -> None:
    if num_inputs != 2 * width:
        raise ModelError(
            "VIT-418",
            f"{header.name}: the linear head has {num_inputs} inputs; expected {2 * width}: the "
            "class token and the mean of the patches of the last block.",
            hint="Take the head of one layer (linear_head, not linear4_head).",
        )


def evaluation_of(config: ViTConfig) -> Preprocess:
    """`data/transforms.py:make_classification_eval_transform`: short side 256 at 224 px, then the
    centre; at the backbones' own 518 px, and near it, the whole height.
    """
    height, width = config.image_size
    side = min(height, width)
    short = side if side >= 384 else side * 256 // 224
    return centre_crop((height, width), short, "bicubic", IMAGENET, config.channels)


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """One file: a backbone that DINOv2's models take, or a classifier of torch.hub.

    Raises ModelError VIT-417.
    """
    if not isinstance(config, ViTConfig):
        raise cannot_hold(NAME, "it is a ResNet")
    require(NAME, config, HELD)
    require(NAME, config, {"pool": "cls_gap" if config.num_classes else "cls"})
    if config.layer_scale is None:
        raise cannot_hold(NAME, "it has no layer scale, which DINOv2 always has")
    tokens = ["cls_token"]
    placed = {"cls_token", "pos_embed", "pos_embed_x", "pos_embed_y", "patch_embed.proj.bias"}
    pairs = PAIRS if config.mlp == "swiglu" else PAIRS[:1]
    rules = write_rules(config, pairs)
    bias = next(rule for rule in rules if rule.ours == ("patch_embed.proj.bias",))
    rules = [rule for rule in rules if not placed.intersection(rule.ours)]
    rules += position_rules(config, tokens, "pos_embed", bias, has_rows=True)
    rules = [
        _with_mask(rule, config.width) if rule.ours == ("norm.bias",) else rule for rule in rules
    ]
    if config.num_classes:
        rules = [_below(rule) for rule in rules]
    return ExportLayout(rules, "safetensors")


def _with_mask(rule: Rule, width: int) -> Rule:
    """The rule with a mask token of zeros beside its tensor: DINOv2's models insist on one."""
    return Rule(
        rule.ours,
        (*rule.theirs, "mask_token"),
        lambda tensors: rule.read(tensors[:1]),
        lambda tensors: [*rule.write(tensors), tensors[0].new_zeros(1, width)],
    )


def _below(rule: Rule) -> Rule:
    """The rule with torch.hub's prefixes."""
    names = tuple(
        HEAD + name.removeprefix("head.") if name.startswith("head.") else BACKBONE + name
        for name in rule.theirs
    )
    return Rule(rule.ours, names, rule.read, rule.write, rule.note)


DINOV2 = Origin(NAME, recognise, write, resample="dino", head="head")

"""State dicts of torchvision's VisionTransformer (`models/vision_transformer.py`, 0.28).

Sizes B/16 to H/14; files are bare state dicts, as `vit_b_16-c867db91.pth`. Until 0.13 the two
layers of the MLP were called linear_1 and linear_2. Positions have a row for the class token.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.checkpoints.mapping.equivalents import PAPER, position_rules, require
from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET, centre_crop
from vitrail.checkpoints.mapping.fact import Said
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    cannot_hold,
    vit_config,
)
from vitrail.checkpoints.mapping.rules import Header, renamed
from vitrail.checkpoints.origins.torch_layout import Layout, Pairs, to_ours, write_rules
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.names import PublishedConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count

NAME = "torchvision"
LAYER = "encoder.layers.encoder_layer_#."
PAIRS: Pairs = (
    ("cls_token", "class_token"),
    ("pos_embed", "encoder.pos_embedding"),
    ("patch_embed.proj.weight", "conv_proj.weight"),
    ("patch_embed.proj.bias", "conv_proj.bias"),
    ("blocks.#.norm1.weight", LAYER + "ln_1.weight"),
    ("blocks.#.norm1.bias", LAYER + "ln_1.bias"),
    ("blocks.#.attn.qkv.weight", LAYER + "self_attention.in_proj_weight"),
    ("blocks.#.attn.qkv.bias", LAYER + "self_attention.in_proj_bias"),
    ("blocks.#.attn.proj.weight", LAYER + "self_attention.out_proj.weight"),
    ("blocks.#.attn.proj.bias", LAYER + "self_attention.out_proj.bias"),
    ("blocks.#.norm2.weight", LAYER + "ln_2.weight"),
    ("blocks.#.norm2.bias", LAYER + "ln_2.bias"),
    ("blocks.#.mlp.fc1.weight", LAYER + "mlp.0.weight"),
    ("blocks.#.mlp.fc1.bias", LAYER + "mlp.0.bias"),
    ("blocks.#.mlp.fc2.weight", LAYER + "mlp.3.weight"),
    ("blocks.#.mlp.fc2.bias", LAYER + "mlp.3.bias"),
    ("norm.weight", "encoder.ln.weight"),
    ("norm.bias", "encoder.ln.bias"),
    ("pre_logits.weight", "heads.pre_logits.weight"),
    ("pre_logits.bias", "heads.pre_logits.bias"),
    ("head.weight", "heads.head.weight"),
    ("head.bias", "heads.head.bias"),
)
OLD_PAIRS: Pairs = (
    ("blocks.#.mlp.fc1.weight", LAYER + "mlp.linear_1.weight"),
    ("blocks.#.mlp.fc1.bias", LAYER + "mlp.linear_1.bias"),
    ("blocks.#.mlp.fc2.weight", LAYER + "mlp.linear_2.weight"),
    ("blocks.#.mlp.fc2.bias", LAYER + "mlp.linear_2.bias"),
)
HEADS = ("heads",)  # of fine-tunes: a Linear in its place, or in a Sequential
FIXED: dict[str, object] = {"ln_eps": 1e-6, "gelu": "gelu"}
HELD: dict[str, object] = {
    **FIXED,
    **PAPER,
    "drop_rest": False,
    "pool": "cls",
    "stem": ("none",),
}

# Bigger images are shown whole (SWAG, end to end); at 224 px the side is 256 first, 242 for L/16.
WHOLE_PX = 384
PREPARED = Said("assumed", "as torchvision's own weights are evaluated")


def recognise(header: Header) -> Recognised | None:
    """torchvision's names."""
    if "conv_proj.weight" not in header.shapes or "class_token" not in header.shapes:
        return None
    layout = Layout(header, to_ours(PAIRS + OLD_PAIRS), HEADS, style=NAME, like=NAME)
    config = vit_config(header, **layout.fields())
    model, rules = layout.model_and_rules(config, {})
    return Recognised(
        config,
        rules,
        evaluation_of(config),
        model=model,
        said=layout.said,
        prepared=PREPARED,
        more=tuple(layout.more),
    )


def evaluation_of(config: ViTConfig) -> Preprocess:
    """The transform of the published weights of that size (`ViT_B_16_Weights` and so on)."""
    size, side = config.image_size, min(config.image_size)
    if side >= WHOLE_PX:
        return centre_crop(size, side, "bicubic", IMAGENET, config.channels)
    is_l16 = (config.width, config.depth, config.patch_size) == (1024, 24, (16, 16))
    short = side * (242 if is_l16 else 256) // 224
    return centre_crop(size, short, "bilinear", IMAGENET, config.channels)


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """One file that `VisionTransformer.load_state_dict` takes. Raises ModelError VIT-417."""
    if not isinstance(config, ViTConfig):
        raise cannot_hold(NAME, "its ResNets do not standardise kernels; try --to bit or timm")
    require(NAME, config, HELD)
    for field in ("image_size", "patch_size"):
        height, width = getattr(config, field)
        if height != width:
            raise cannot_hold(NAME, f"{field} is {height} x {width}; the class needs a square")
    if config.channels != 3:
        raise cannot_hold(
            NAME, f"it has {count(config.channels, 'input channel')}; the class has 3"
        )
    if not config.num_classes:
        raise cannot_hold(NAME, "it has no head; the class always has one")
    placed = {"cls_token", "pos_embed", "pos_embed_x", "pos_embed_y", "patch_embed.proj.bias"}
    rules = [rule for rule in write_rules(config, PAIRS) if not placed.intersection(rule.ours)]
    bias = renamed("patch_embed.proj.bias", "conv_proj.bias")
    rules += position_rules(config, ["class_token"], "encoder.pos_embedding", bias, has_rows=True)
    return ExportLayout(rules, "safetensors")


TORCHVISION = Origin(NAME, recognise, write, resample="torchvision", head="heads.head")

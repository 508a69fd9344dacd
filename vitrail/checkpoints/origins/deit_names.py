"""Files of facebookresearch/deit @7e160fe: DeiT, its distilled models, DeiT III.

The networks are timm's with timm's names, in a file {"model": ...}; DeiT III (`models_v2.py`) calls
its layer scales gamma_1 and gamma_2 and has no position for the class token.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.checkpoints.mapping.equivalents import COMPUTED, ENCODER, position_rules, require
from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET, centre_crop
from vitrail.checkpoints.mapping.fact import Said
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

NAME = "deit"
PAIRS: Pairs = (
    ("blocks.#.ls1.gamma", "blocks.#.gamma_1"),
    ("blocks.#.ls2.gamma", "blocks.#.gamma_2"),
)
FIXED: dict[str, object] = {"ln_eps": 1e-6, "gelu": "gelu"}
HELD: dict[str, object] = {
    **FIXED,
    **ENCODER,
    "pool": "cls",
    "num_registers": 0,
    "mlp": "gelu",
    "representation_size": None,
    "stem": ("none",),
}

PREPARED = Said("assumed", "as DeiT evaluates at this size")


def recognise(header: Header) -> Recognised | None:
    """DeiT III's names, or timm's in a file whose name begins with deit."""
    if "config.json" in header.metadata or "blocks.0.attn.qkv.weight" not in header.shapes:
        return None
    is_third = "blocks.0.gamma_1" in header.shapes
    is_named = header.name.lower().startswith("deit") and "mask_token" not in header.shapes
    if not is_third and not is_named and not said_by(header, NAME):
        return None
    if "cls_token" not in header.shapes:
        raise ModelError(
            "VIT-418",
            f"{header.name} has DeiT's names, but no cls_token, which all of its models have.",
            hint="The file is not whole, or of a model of its own: --map FILE",
        )
    layout = Layout(header, to_ours(PAIRS), like="DeiT")
    config = vit_config(header, **layout.fields())
    preprocess = evaluation_of(config, is_third=is_third)
    model, rules = layout.model_and_rules(config, {})
    return Recognised(
        config,
        rules,
        preprocess,
        model=model,
        said=layout.said,
        prepared=PREPARED,
        more=tuple(layout.more),
    )


def said_by(header: Header, origin: str) -> bool:
    """Whether vitrail noted in the file whose names these are."""
    return bool(header.metadata.get("origin") == origin)


def evaluation_of(config: ViTConfig, *, is_third: bool) -> Preprocess:
    """`datasets.py:build_transform`: the short side size / 0.875 (DeiT III: the size itself), then
    the centre; images above 224 px are shown whole.
    """
    height, width = config.image_size
    side = min(height, width)
    is_whole = is_third or side >= 384
    short = side if is_whole else side * 256 // 224
    return centre_crop((height, width), short, "bicubic", IMAGENET, config.channels)


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """One file that DeiT's models take as checkpoint["model"]. Raises ModelError VIT-417."""
    if not isinstance(config, ViTConfig):
        raise cannot_hold(NAME, "it is a ResNet")
    require(NAME, config, HELD)
    if config.layer_scale is None:
        require(NAME, config, {"posemb": ("learned", *COMPUTED)})
        return ExportLayout(_rules(config, has_rows=True), "safetensors")
    require(
        f"{NAME} (DeiT III)",
        config,
        {"distillation_token": False, "posemb": ("learned", *COMPUTED)},
    )
    return ExportLayout(_rules(config, has_rows=False), "safetensors")


def _rules(config: ViTConfig, *, has_rows: bool) -> list[Rule]:
    tokens = ["cls_token", *(["dist_token"] if config.distillation_token else [])]
    placed = {"pos_embed", "pos_embed_x", "pos_embed_y", "patch_embed.proj.bias", *tokens}
    rules = write_rules(config, PAIRS)
    bias = next(rule for rule in rules if rule.ours == ("patch_embed.proj.bias",))
    rules = [rule for rule in rules if not placed.intersection(rule.ours)]
    return rules + position_rules(config, tokens, "pos_embed", bias, has_rows=has_rows)


DEIT = Origin(NAME, recognise, write, resample="deit", head="head")

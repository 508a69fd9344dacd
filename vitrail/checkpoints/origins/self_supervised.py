"""Pre-training files of MoCo v3, DINO v1, iBOT and MAE under their authors' names.

All four train timm's VisionTransformer with LayerNorm eps 1e-6 and GELU by erf; they are told by
what they leave beside it: a momentum encoder, a projection head, a token for masked patches, a
decoder. The table of rows says how many heads their code has for a width and a depth, which differs
(MoCo v3's ViT-S has 12, everybody else's 6). Images are normalised by ImageNet's statistics.

Sources: facebookresearch/{moco-v3,dino,mae}, bytedance/ibot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET, centre_crop
from vitrail.checkpoints.mapping.fact import Said, with_given
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    cannot_hold,
    vit_config,
)
from vitrail.checkpoints.mapping.rules import Header, ignored
from vitrail.checkpoints.mapping.wrappers import beside_of, prefix_of
from vitrail.checkpoints.origins.torch_layout import Layout
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.names import ModelConfig, PublishedConfig

VIT_MARK = ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight")
EVALUATION_PX, SHORT_PX = 224, 256


class Family(NamedTuple):
    """mark: of a name within the model or beside it; word: in the prefix; heads: by (width, depth);
    head: names of its projection head, which are left out; interpolation: of its evaluation.
    """

    name: str
    mark: str
    word: str
    heads: Mapping[tuple[int, int], int]
    head: str = ""
    interpolation: str = "bicubic"


DINO_HEAD = r"(.*\.)?head\.(mlp\.\d+\.\w+|last_layer\.\w+)"
FAMILIES = (
    Family(
        "moco", "", "base_encoder", {(384, 12): 12, (768, 12): 12}, r"head\.\d+\.\w+", "bilinear"
    ),
    Family("ibot", r"masked_embed", "", {(384, 12): 6, (768, 12): 12, (1024, 24): 16}),
    Family("mae", r"decoder_embed\.weight", "", {(768, 12): 12, (1024, 24): 16, (1280, 32): 16}),
    Family("dino", DINO_HEAD, "", {(192, 12): 3, (384, 12): 6, (768, 12): 12}),
)


def recognise(family: Family, header: Header) -> Recognised | None:
    """timm's names with the family's mark; None for every other file."""
    if any(name not in header.shapes for name in VIT_MARK) or "config.json" in header.metadata:
        return None
    if family.word and family.word not in prefix_of(header).split("."):
        return None
    mark = re.compile(family.mark)
    names = (*header.shapes, *beside_of(header))
    if family.mark and not any(mark.fullmatch(name) for name in names):
        return None
    layout = Layout(header, lambda name: name, heads=() if family.head else ("head",))
    width = layout.shape("blocks.0.norm1.weight", 1)[0]
    depth = len({name.split(".")[1] for name in header.shapes if name.startswith("blocks.")})
    row = Said("row", f"row of {family.name} {width}/{depth}")
    if (width, depth) in family.heads:
        header = with_given(header, {"num_heads": family.heads[width, depth]}, row)
    usual = {"gelu": "gelu", "ln_eps": 1e-6}
    layout.header = header = with_given(header, usual, Said("row", f"every {family.name}"))
    config = vit_config(header, **layout.fields())
    model, rules = layout.model_and_rules(config, {})
    head = re.compile(family.head) if family.head else None
    rules += [
        ignored(name, "projection head of pre-training")
        for name in header.shapes
        if head and head.fullmatch(name)
    ]
    said = {**layout.said, "pool": Said("row", f"every {family.name}")}
    prepared = Said("row", f"as {family.name} evaluates")
    preprocess = evaluation_of(config, family.interpolation)
    return Recognised(config, rules, preprocess, model=model, said=said, prepared=prepared)


def evaluation_of(config: ModelConfig, interpolation: str) -> Preprocess:
    """The transform of their linear probes: short side 256 at 224 px, then the centre."""
    size = config.image_size
    short = min(size) * SHORT_PX // EVALUATION_PX
    return centre_crop(size, short, interpolation, IMAGENET, config.channels)


def _origin(family: Family) -> Origin:
    def write(
        config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]
    ) -> ExportLayout:
        raise cannot_hold(family.name, "files of pre-training are read only; try --to timm")

    return Origin(
        family.name, lambda header: recognise(family, header), write, resample="dino", head="head"
    )


SELF_SUPERVISED = tuple(_origin(family) for family in FAMILIES)

"""Image towers of CLIP under OpenAI's names, as OpenCLIP has them too: `visual.conv1.weight` ...

Source: openai/CLIP `clip/model.py:VisionTransformer`, mlfoundations/open_clip
`transformer.py:VisionTransformer`. Heads have 64 channels in OpenAI's code; in OpenCLIP's by
`open_clip_config.json`, or by the exact width. Whether GELU is by erf (OpenCLIP's own models) or
x * sigmoid(1.702 x) (OpenAI's weights) is in no tensor: OpenAI's files have `input_resolution`
beside the weights, OpenCLIP's folders a config, otherwise it must be stated.

The projection to the space of images and texts is the head; it has no bias and its outputs are no
classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vitrail.checkpoints.adapt.request import tensor_shapes
from vitrail.checkpoints.catalogue.published import Size, heads_of
from vitrail.checkpoints.huggingface.preprocess import CLIP
from vitrail.checkpoints.mapping.evaluation_crops import centre_crop
from vitrail.checkpoints.mapping.fact import Said, sources_of, with_given
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    cannot_hold,
    given,
    square,
    vit_config,
)
from vitrail.checkpoints.mapping.rules import (
    Header,
    Rule,
    Shape,
    Transform,
    implied,
    renamed,
    reshaped,
)
from vitrail.checkpoints.mapping.wrappers import beside_of
from vitrail.checkpoints.origins.torch_layout import Pairs, translate
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.models.create import build
from vitrail.models.names import PublishedConfig
from vitrail.models.vit.config import ViTConfig

NAME = "clip"
BLOCK = "transformer.resblocks.#."
PAIRS: Pairs = (
    ("patch_embed.proj.weight", "conv1.weight"),
    ("norm_pre.weight", "ln_pre.weight"),
    ("norm_pre.bias", "ln_pre.bias"),
    ("blocks.#.norm1.weight", BLOCK + "ln_1.weight"),
    ("blocks.#.norm1.bias", BLOCK + "ln_1.bias"),
    ("blocks.#.attn.qkv.weight", BLOCK + "attn.in_proj_weight"),
    ("blocks.#.attn.qkv.bias", BLOCK + "attn.in_proj_bias"),
    ("blocks.#.attn.proj.weight", BLOCK + "attn.out_proj.weight"),
    ("blocks.#.attn.proj.bias", BLOCK + "attn.out_proj.bias"),
    ("blocks.#.norm2.weight", BLOCK + "ln_2.weight"),
    ("blocks.#.norm2.bias", BLOCK + "ln_2.bias"),
    ("blocks.#.mlp.fc1.weight", BLOCK + "mlp.c_fc.weight"),
    ("blocks.#.mlp.fc1.bias", BLOCK + "mlp.c_fc.bias"),
    ("blocks.#.mlp.fc2.weight", BLOCK + "mlp.c_proj.weight"),
    ("blocks.#.mlp.fc2.bias", BLOCK + "mlp.c_proj.bias"),
    ("norm.weight", "ln_post.weight"),
    ("norm.bias", "ln_post.bias"),
)
MARKS = ("conv1.weight", "class_embedding", "positional_embedding", "ln_pre.weight")
CONFIG = "open_clip_config.json"
# Heads by (width, layers) of the published towers of both; no two share a row.
ROWS = {
    (384, 12): 6,
    (512, 12): 8,
    (640, 12): 10,
    (768, 12): 12,
    (896, 14): 14,
    (896, 16): 14,
    (1024, 24): 16,
    (1280, 32): 16,
    (1408, 40): 16,
    (1664, 48): 16,
}
TRANSPOSED = Transform("(in, out) to (out, in)", lambda x: x.t(), lambda x: x.t())
HEAD_NOTE = "the head is CLIP's projection of images: its outputs are no classes"


def recognise(header: Header) -> Recognised | None:
    """OpenAI's names, of the image tower alone."""
    if any(name not in header.shapes for name in MARKS):
        return None
    width, channels, *patch = _shape(header, "conv1.weight", 4)
    pattern = re.compile(r"transformer\.resblocks\.(\d+)\.ln_1\.weight")
    depth = len({found[1] for name in header.shapes if (found := pattern.fullmatch(name))})
    if not depth:
        raise _refused(header, "transformer.resblocks.0 is missing: it may be CLIP's ResNet")
    header = _with_known(header, width, depth)
    rows = _shape(header, "positional_embedding", 2)[0]
    has_head = "proj" in header.shapes
    hidden = _shape(header, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0]
    config = vit_config(
        header,
        image_size=square(header, rows, 1, (patch[0], patch[1])),
        patch_size=tuple(patch),
        channels=channels,
        width=width,
        depth=depth,
        num_heads=heads_of(header, Size(width, depth, hidden, patch[0])),
        mlp_dim=hidden,
        num_classes=_shape(header, "proj", 2)[1] if has_head else 0,
        layer_scale=1e-5 if "transformer.resblocks.0.ls_1.gamma" in header.shapes else None,
        ln_eps=1e-5,
        pre_norm=True,
    )
    model = build(config)
    said = {"ln_eps": Said("row", "every CLIP"), "pool": Said("row", "every CLIP")}
    return Recognised(
        config,
        _rules(config, tensor_shapes(model)),
        _preprocess(header, config),
        notes=(HEAD_NOTE,) if has_head else (),
        model=model,
        said=said | sources_of(header),
        prepared=_prepared(header),
    )


def _with_known(header: Header, width: int, depth: int) -> Header:
    """The header with heads and activation from where they are certain. Raises ModelError VIT-418
    where nothing tells the activation.
    """
    vision = _table(_table(header.metadata, CONFIG, "model_cfg"), "vision_cfg")
    if CONFIG in header.metadata:
        said = Said("file", CONFIG)
        heads = width // int(vision.get("head_width", 64))
        quick = bool(_table(header.metadata, CONFIG, "model_cfg").get("quick_gelu", False))
        known = {"num_heads": heads, "gelu": "quick_gelu" if quick else "gelu"}
        size = vision.get("image_size")
        return with_given(header, known | ({"image_size": size} if size else {}), said)
    if (width, depth) in ROWS:
        said = Said("row", f"row of CLIP's tower {width}/{depth}")
        header = with_given(header, {"num_heads": ROWS[width, depth]}, said)
    if any(name.endswith("input_resolution") for name in beside_of(header)):
        return with_given(header, {"gelu": "quick_gelu"}, Said("row", "OpenAI's weights"))
    if given(header, "gelu", None) is None:
        raise _refused(
            header,
            "the activation is not in the file: OpenAI's weights have quick_gelu, OpenCLIP's own "
            "gelu",
            "State it: --set gelu=quick_gelu, or --set gelu=gelu",
        )
    return header


def _rules(config: ViTConfig, shapes: Mapping[str, Shape]) -> list[Rule]:
    width, rows = config.width, (config.posemb_rows, config.width)
    rules = [
        renamed("cls_token", "class_embedding", reshaped((1, 1, width), (width,))),
        renamed("pos_embed", "positional_embedding", reshaped((1, *rows), rows)),
    ]
    if config.num_classes:
        zeros = torch.zeros(config.num_classes)
        rules += [
            renamed("head.weight", "proj", TRANSPOSED),
            implied("head.bias", zeros, "zero, as the projection has no bias"),
        ]
    mine = {"cls_token", "pos_embed", "head.weight", "head.bias"}
    pairs = (
        *PAIRS,
        ("blocks.#.ls1.gamma", BLOCK + "ls_1.gamma"),
        ("blocks.#.ls2.gamma", BLOCK + "ls_2.gamma"),
    )
    return rules + [renamed(name, translate(pairs, name)) for name in shapes if name not in mine]


def _preprocess(header: Header, config: ViTConfig) -> Preprocess:
    """OpenAI's transform: the short side to the image size, bicubic, then the centre."""
    stated = _table(header.metadata, CONFIG, "preprocess_cfg")
    stats = tuple(
        tuple(map(float, values)) if isinstance(values := stated.get(key), list) else usual
        for key, usual in zip(("mean", "std"), CLIP, strict=True)
    )
    size = config.image_size
    return centre_crop(size, min(size), "bicubic", (stats[0], stats[1]), config.channels)


def _prepared(header: Header) -> Said:
    if CONFIG in header.metadata:
        return Said("file", CONFIG)
    return Said("assumed", "as CLIP evaluates")


def _table(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """A table inside tables, an empty one where there is none."""
    for key in path:
        found = values.get(key)
        values = found if isinstance(found, Mapping) else {}
    return values


def _shape(header: Header, name: str, rank: int) -> Shape:
    shape = header.shapes.get(name, ())
    if len(shape) != rank or 0 in shape:
        raise _refused(header, f"{name} has shape {shape}; expected {rank} axes")
    return shape


def _refused(header: Header, what: str, hint: str = "") -> ModelError:
    return ModelError(
        "VIT-418",
        f"{header.name}: {what}.",
        hint=hint or "The file is not whole, or of another kind of model.",
    )


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """Raises ModelError VIT-417: these files are read only."""
    raise cannot_hold(NAME, "CLIP's own files are read only; try --to timm")


OPENAI_CLIP = Origin(NAME, recognise, write, resample="timm")

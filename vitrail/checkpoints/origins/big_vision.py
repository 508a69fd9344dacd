"""Files of google-research/big_vision: ViT (also SigLIP's image tower, FlexiViT) and ResNet v1 with
GroupNorm, `.npz`.

Source: `models/vit.py` (`_Model`, `load`, `fix_old_checkpoints`), `models/bit.py`. As
vision_transformer's files, but: roots "params/" and, of two towers, "params/img/"; a position table
without a row for the class token, or none where positions are sines and cosines; modules numbered
by class; blocks of a scan stacked along a first axis; attention pooling ("MAPHead_0"). GELU is
Flax's (tanh), eps 1e-6. A published FlexiViT, of 240 px and patches of ten sizes, is told by the
name of its file, its kernel of 32 x 32 px and its grid of 7 x 7; another is read at what it stores.

A model whose table has rows for the class token is written with that row added to the token, and
computed positions as the table they amount to: the same sums, value by value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitrail.checkpoints.mapping.equivalents import PAPER, position_rules, require
from vitrail.checkpoints.mapping.fact import Said, assumed
from vitrail.checkpoints.mapping.flexivit import KEPT_GRID, KEPT_KERNEL, flexible_fields
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    bit_config,
    cannot_hold,
    given_size,
)
from vitrail.checkpoints.mapping.rules import Header, Rule, ignored, renamed, reshaped
from vitrail.checkpoints.origins import google_blocks as flax
from vitrail.checkpoints.origins.google_vit import (
    DEFAULT_SIZE,
    FIXED,
    FIXED_STEM,
    NEW_TABLE,
    FlaxFile,
    encoder_rules,
    flax_file,
    scores_of,
    vit_fields,
    vit_rules,
)
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.bit.config import STEM_WIDTH, BiTConfig
from vitrail.models.names import PublishedConfig
from vitrail.models.vit.config import ViTConfig

NAME = "big_vision"
ROOT = "params/"
HELD = {
    **FIXED,
    **PAPER,
    "pool": ("cls", "gap", "map"),
    "norm_after_pool": False,
    "stem": ("none",),
}

PREPARED = Said("assumed", "as big_vision evaluates")
HELD_BIT: dict[str, object] = {"style": "v1_gn", "stem": "imagenet"} | FIXED_STEM


def recognise(header: Header) -> Recognised | None:
    """A ViT with modules numbered by class, or the ResNet (a root convolution, no patches)."""
    file = flax_file(header, "embedding/kernel", rank=4)
    if file is None:
        found = flax_file(header, "conv_root/kernel", rank=4)
        return _recognised_bit(header, found) if found else None
    if file.is_old:
        return None
    config, said = vit_fields(header, file)
    if is_published_flexivit(header, config):
        config = ViTConfig(**(config.model_dump() | flexible_fields(KEPT_KERNEL, KEPT_GRID)))
        said |= assumed("as every published FlexiViT", "image_size", "patch_size", "patch_sizes")
    size = config.image_size
    # SigLIP pools by attention and squashes; the others are cropped from a larger short side.
    preprocess = squashed(size) if config.pool == "map" else cropped(size)
    return Recognised(
        config,
        vit_rules(file, config),
        preprocess,
        scores=scores_of(config.num_classes),
        said=said,
        prepared=PREPARED,
        resample="flexi" if is_flexivit(header) else "",
    )


def is_flexivit(header: Header) -> bool:
    """Whether the file is called so."""
    return "flexivit" in header.name.lower()


def is_published_flexivit(header: Header, config: ViTConfig) -> bool:
    """Whether it stores what `configs/proj/flexivit` trained, and no other size is stated."""
    kept = (config.patch_size, config.grid, config.posemb)
    is_same = kept == (KEPT_KERNEL, KEPT_GRID, "learned")
    return is_flexivit(header) and is_same and given_size(header) is None


def squashed(size: tuple[int, int]) -> Preprocess:
    """`resize(size)|value_range(-1, 1)`: TensorFlow's bilinear resize, not antialiased."""
    return Preprocess(
        height=size[0],
        width=size[1],
        resize=size,
        interpolation="bilinear",
        resizer="tensorflow",
        antialias=False,
    )


def cropped(size: tuple[int, int]) -> Preprocess:
    """`resize_small(256)|central_crop(224)|value_range(-1, 1)`, and in proportion (spec 2.6)."""
    return Preprocess(
        height=size[0],
        width=size[1],
        resize=min(size) * 8 // 7,
        crop="center_floor",
        interpolation="area",
        resizer="tensorflow",
    )


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """Rules and notes for a file that big_vision reads. Raises ModelError VIT-417."""
    notes = [f"class names are not stored ({', '.join(classes[:3])} ...)"] if classes else []
    own = (squashed(config.image_size), cropped(config.image_size))
    if preprocess not in own:
        notes.append("the preprocessing is not stored, and is another than these files' own")
    if isinstance(config, BiTConfig):
        rules = _written_bit(config)
    else:
        rules = _written_vit(config)
        height, width = config.image_size
        if height != width or config.posemb == "sincos_2d":
            notes.append(f"the image size {height} x {width} px is not stored: state it to read")
    return ExportLayout(flax.rooted(rules, lambda name: ROOT + name), "npz", notes=tuple(notes))


def _written_vit(config: ViTConfig) -> list[Rule]:
    require(NAME, config, HELD)
    if config.cls_token != (config.pool == "cls"):
        raise cannot_hold(NAME, f"it has a class token and pool={config.pool!r}")
    rules = encoder_rules(config, flax.CLASS_ORDER, {})
    tokens = ["cls"] if config.cls_token else []
    if config.posemb == "sincos_2d":  # computed by big_vision too, never stored
        return rules + [renamed("cls_token", name) for name in tokens]
    bias = next(rule for rule in rules if rule.ours == ("patch_embed.proj.bias",))
    rules = [rule for rule in rules if rule is not bias]
    return rules + position_rules(config, tokens, NEW_TABLE, bias, has_rows=False)


def _written_bit(config: BiTConfig) -> list[Rule]:
    require(NAME, config, HELD_BIT)
    return _bit_rules(config.depths, config.num_features, config.num_classes, {})


def _recognised_bit(header: Header, file: FlaxFile) -> Recognised:
    *_, channels, stem_width = file.shape("conv_root/kernel", 4)
    num_classes = file.shape("head/kernel", 2)[1] if "head/kernel" in file.shapes else 0
    fields: dict[str, Any] = FIXED_STEM | {
        "image_size": DEFAULT_SIZE,
        "channels": channels,
        "depths": flax.stages_in(list(file.shapes)),
        "width_factor": stem_width / STEM_WIDTH,
        "style": "v1_gn",
        "num_classes": num_classes,
    }
    config = bit_config(header, **fields)
    rules = _bit_rules(config.depths, config.num_features, num_classes, file.shapes)
    rules = flax.rooted(rules, lambda name: file.root + name)
    rules += [ignored(name, "in addition to the model") for name in file.others]
    return Recognised(
        config,
        rules,
        cropped(config.image_size),
        scores=scores_of(num_classes),
        said=assumed("the file does not say it", "image_size"),
        prepared=PREPARED,
    )


def _bit_rules(
    depths: Sequence[int], num_features: int, num_classes: int, shapes: Any
) -> list[Rule]:
    rules = flax.resnet("stem.", "", depths, shapes)
    if not num_classes:
        return rules
    kernel = reshaped((num_classes, num_features, 1, 1), (num_classes, num_features))
    weight = flax.dense("head.fc", "head")[0]
    return [
        *rules,
        Rule(
            weight.ours,
            weight.theirs,
            lambda tensors: [kernel.read(weight.read(tensors)[0])],
            lambda tensors: weight.write([kernel.write(tensors[0])]),
        ),
        flax.dense("head.fc", "head")[1],
    ]


BIG_VISION = Origin(NAME, recognise, write, resample="google")

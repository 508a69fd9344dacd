"""Files of google-research/vision_transformer: ViT, AugReg, SAM and hybrid `.npz`.

Source: `vit_jax/models_vit.py:VisionTransformer`, `models_resnet.py`, `checkpoint.py`. Kernels are
HWIO and (in, out), the position table has a row for the class token, and what was not learned is
not stored: GELU is Flax's (tanh), LayerNorm and GroupNorm eps 1e-6, kernels of the hybrid are
standardised as (w - mean) / (std + 1e-5).

A model whose positions are computed or absent is written with the table they amount to, and one
whose table has no row for the class token with a row of zeros: the same sums, value by value.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.checkpoints.mapping.equivalents import PAPER, position_rules, require
from vitrail.checkpoints.mapping.fact import Said
from vitrail.checkpoints.mapping.origin import ExportLayout, Origin, Recognised, cannot_hold
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins import google_blocks as flax
from vitrail.checkpoints.origins.google_vit import (
    FIXED,
    FIXED_STEM,
    OLD_TABLE,
    encoder_rules,
    flax_file,
    scores_of,
    vit_fields,
    vit_rules,
)
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.names import ModelConfig, PublishedConfig
from vitrail.models.vit.config import ViTConfig

NAME = "google"
# Fields that these files have no tensor or no number for.
HELD = {
    **FIXED,
    **PAPER,
    "pool": ("cls", "gap"),
    "norm_after_pool": False,
    "stem": ("none", "resnet"),
}


def recognise(header: Header) -> Recognised | None:
    """A vision_transformer file: the position table in its module, or modules in call order."""
    file = flax_file(header, "embedding/kernel", rank=4)
    if file is None or not file.is_old:
        return None
    config, said = vit_fields(header, file)
    return Recognised(
        config,
        vit_rules(file, config),
        squashed(config.image_size),
        scores=scores_of(config.num_classes),
        said=said,
        prepared=Said("assumed", "as vision_transformer evaluates"),
    )


def squashed(size: tuple[int, int]) -> Preprocess:
    """The whole image at this size by TensorFlow's bilinear resize, which keeps floats and does
    not antialias; values in [-1, 1] (`input_pipeline.py`)."""
    return Preprocess(
        height=size[0],
        width=size[1],
        resize=size,
        interpolation="bilinear",
        resizer="tensorflow",
        antialias=False,
        keep_floats=True,
    )


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """Rules and notes for a file that vision_transformer reads. Raises ModelError VIT-417."""
    if not isinstance(config, ViTConfig):
        raise cannot_hold(NAME, "it is a ResNet; try --to bit or --to big_vision")
    require(NAME, config, HELD)
    if config.stem == "resnet":
        require(NAME, config, FIXED_STEM | {"stem_root": "imagenet"})
    if config.cls_token != (config.pool == "cls"):
        raise cannot_hold(NAME, f"it has a class token and pool={config.pool!r}")
    rules = encoder_rules(config, flax.CALL_ORDER, {})
    bias = next(rule for rule in rules if rule.ours == ("patch_embed.proj.bias",))
    tokens = ["cls"] if config.cls_token else []
    rules = [rule for rule in rules if rule is not bias]
    rules += position_rules(config, tokens, OLD_TABLE, bias, has_rows=bool(tokens))
    return ExportLayout(rules, "npz", notes=left_out(config, preprocess, classes))


def left_out(
    config: ModelConfig, preprocess: Preprocess, classes: Sequence[str]
) -> tuple[str, ...]:
    """What an `.npz` of arrays does not say, a sentence each."""
    notes = [f"class names are not stored ({', '.join(classes[:3])} ...)"] if classes else []
    if preprocess != squashed((preprocess.height, preprocess.width)):
        notes.append("the preprocessing is not stored, and is another than these files' own")
    height, width = config.image_size
    if height != width:
        notes.append(f"the image size {height} x {width} px is not stored: state it when reading")
    return tuple(notes)


GOOGLE = Origin(NAME, recognise, write, resample="google")

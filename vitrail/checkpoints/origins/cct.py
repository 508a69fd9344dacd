"""Compact Convolutional Transformers under SHI-Labs' names.

Source: SHI-Labs/Compact-Transformers `src/cct.py`, `utils/transformers.py`, `utils/tokenizer.py`. A
block adds its MLP to what the second norm gives (`block` between), so that this is more than names.
Queries, keys and values have no bias, LayerNorm torch's eps, GELU is by erf. The width has 64
channels a head in every published size. ViT-Lite and CVT have the same names and other patches:
their kernels are even.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from vitrail.checkpoints.catalogue.published import Size, heads_of
from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET, Stats, centre_crop, squash
from vitrail.checkpoints.mapping.fact import Said, assumed, with_given
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    cannot_hold,
    given_size,
    vit_config,
)
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins.torch_layout import Layout, Pairs, num_blocks, to_ours
from vitrail.data.images.preprocess import Preprocess, short_side
from vitrail.errors import ModelError
from vitrail.models.names import CCT as SIZES
from vitrail.models.names import PublishedConfig
from vitrail.models.vit.config import ViTConfig

NAME = "cct"
AT, BLOCK = "classifier.", "classifier.blocks.#."
MARK = "tokenizer.conv_layers.0.0.weight"
PAIRS: Pairs = (
    ("patch_embed.convs.#.weight", "tokenizer.conv_layers.#.0.weight"),
    ("pos_embed", AT + "positional_emb"),
    ("seq_pool.score.weight", AT + "attention_pool.weight"),
    ("seq_pool.score.bias", AT + "attention_pool.bias"),
    ("blocks.#.norm1.weight", BLOCK + "pre_norm.weight"),
    ("blocks.#.norm1.bias", BLOCK + "pre_norm.bias"),
    ("blocks.#.attn.qkv.weight", BLOCK + "self_attn.qkv.weight"),
    ("blocks.#.attn.proj.weight", BLOCK + "self_attn.proj.weight"),
    ("blocks.#.attn.proj.bias", BLOCK + "self_attn.proj.bias"),
    ("blocks.#.norm2.weight", BLOCK + "norm1.weight"),
    ("blocks.#.norm2.bias", BLOCK + "norm1.bias"),
    ("blocks.#.mlp.fc1.weight", BLOCK + "linear1.weight"),
    ("blocks.#.mlp.fc1.bias", BLOCK + "linear1.bias"),
    ("blocks.#.mlp.fc2.weight", BLOCK + "linear2.weight"),
    ("blocks.#.mlp.fc2.bias", BLOCK + "linear2.bias"),
    ("norm.weight", AT + "norm.weight"),
    ("norm.bias", AT + "norm.bias"),
    ("head.weight", AT + "fc.weight"),
    ("head.bias", AT + "fc.bias"),
)
# Of its data sets of small images, by the number of classes.
CIFAR: dict[int, Stats] = {
    10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    100: ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
SMALL_PX, CROP = 96, 0.9


def recognise(header: Header) -> Recognised | None:
    """SHI-Labs' names of a CCT."""
    if MARK not in header.shapes or f"{AT}attention_pool.weight" not in header.shapes:
        return None
    layout = Layout(header, to_ours(PAIRS), heads=())
    width = layout.shape("norm.weight", 1)[0]
    depth = num_blocks(layout.shapes)
    rows = {(size.width, size.depth): size.num_heads for size in SIZES.values()}
    if (width, depth) in rows:
        said = Said("row", f"row of CCT-{depth}")
        header = with_given(header, {"num_heads": rows[width, depth]}, said)
    fields = _fields(header, layout, width, depth)
    config = vit_config(header, **fields)
    model, rules = layout.model_and_rules(config, {})
    certain = Said("row", "every CCT")
    said_by = layout.said | dict.fromkeys(("gelu", "ln_eps", "block"), certain)
    if given_size(header) is None:
        said_by |= assumed("a power of 2 of the tokens along a side", "image_size")
    return Recognised(
        config,
        rules,
        evaluation_of(config),
        model=model,
        said=said_by,
        prepared=Said("assumed", "as CCT evaluates on ImageNet or CIFAR"),
    )


def _fields(header: Header, layout: Layout, width: int, depth: int) -> dict[str, Any]:
    """Everything of the architecture. Raises ModelError VIT-418, VIT-420."""
    kernel = layout.shape("patch_embed.convs.0.weight", 4)
    form = re.compile(r"patch_embed\.convs\.\d+\.weight")
    count = len([name for name in layout.shapes if form.fullmatch(name)])
    if kernel[2] % 2 == 0:
        raise ModelError(
            "VIT-418",
            f"{header.name}: kernels of {kernel[2]}x{kernel[3]} are patches of ViT-Lite or CVT, "
            "which are not supported.",
            hint="CCT's kernels are 3, 5 or 7 px.",
        )
    has_table = "pos_embed" in layout.shapes
    hidden = layout.shape("blocks.0.mlp.fc1.weight", 2)[0]
    stride = max(1, kernel[2] // 2 - 1)
    fields: dict[str, Any] = {
        "image_size": given_size(header) or _size(header, layout, (2 * stride) ** count),
        "patch_size": (1, 1),
        "channels": kernel[1],
        "width": width,
        "depth": depth,
        "num_heads": heads_of(header, Size(width, depth, hidden, kernel[2])),
        "mlp_dim": hidden,
        "num_classes": layout.shape("head.weight", 2)[0] if "head.weight" in layout.shapes else 0,
        "pool": "seq",
        "posemb": "learned" if has_table else "none",
        "ln_eps": 1e-5,
        "block": "between",
        "stem": "conv",
        "stem_convs": count,
        "stem_kernel": kernel[2],
    }
    return fields | ({"stem_width": kernel[0]} if count > 1 else {})


def _size(header: Header, layout: Layout, factor: int) -> tuple[int, int]:
    """The image size of a square of tokens. Raises ModelError VIT-420 where there is none."""
    rows = layout.shape("pos_embed", 3)[1] if "pos_embed" in layout.shapes else 0
    side = math.isqrt(rows)
    if not side or side * side != rows:
        raise ModelError(
            "VIT-420",
            f"{header.name}: {rows} positions make no square, and the file does not say the size.",
            hint="Name it in pixels: --set image_size=HEIGHTxWIDTH",
        )
    return side * factor, side * factor


def evaluation_of(config: ViTConfig) -> Preprocess:
    """Small images as they are, with the statistics of their data; larger ones as timm does."""
    size = config.image_size
    if min(size) < SMALL_PX:
        stats = CIFAR.get(config.num_classes, IMAGENET)
        return squash(size, "bicubic", stats, config.channels)
    return centre_crop(size, short_side(min(size), CROP), "bicubic", IMAGENET, config.channels)


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """Raises ModelError VIT-417: these files are read only."""
    raise cannot_hold(NAME, "SHI-Labs' files are read only")


SHI_CCT = Origin(NAME, recognise, write, resample="timm", head="classifier.fc")

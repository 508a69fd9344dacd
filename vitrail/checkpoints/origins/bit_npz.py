"""Released files of Big Transfer: BiT-S and BiT-M, also fine-tuned and distilled, `.npz` with the
names of TensorFlow variables.

Source: google-research/big_transfer `bit_pytorch/models.py:ResNetV2.load_from`; numbers behind
names ("standardized_conv2d_17"): big_vision `models/bit_paper.py:load`. Kernels are HWIO; a, b, c
are the three convolutions of a unit, each behind its GroupNorm; "proj" is the shortcut.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.checkpoints.mapping.equivalents import require
from vitrail.checkpoints.mapping.fact import Said, assumed
from vitrail.checkpoints.mapping.origin import (
    ExportLayout,
    Origin,
    Recognised,
    bit_config,
    cannot_hold,
)
from vitrail.checkpoints.mapping.rules import CONV, Header, Rule, ignored, renamed
from vitrail.checkpoints.origins.google_blocks import rooted
from vitrail.checkpoints.origins.google_vit import scores_of
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError
from vitrail.models.bit.config import STEM_WIDTH, STYLES, BiTConfig
from vitrail.models.names import PublishedConfig

NAME = "bit"
ROOT = "resnet/root_block/standardized_conv2d/kernel"
HEAD = "resnet/head/conv2d"
HELD: dict[str, object] = {"style": "v2", "stem": "imagenet"} | STYLES["v2"]
LARGE = (480, 480)  # px of fine-tuning, but for small images (`bit_hyperrule.py`)


def recognise(header: Header) -> Recognised | None:
    """A file with the root's convolution under its TensorFlow name."""
    actual = {plain(name): name for name in header.shapes}
    if ROOT not in actual:
        return None
    shapes = {name: header.shapes[found] for name, found in actual.items()}
    root = shapes[ROOT]
    if len(root) != 4 or root[:2] != (7, 7):
        raise ModelError(
            "VIT-418",
            f"{header.name}: {actual[ROOT]} has shape {root}; expected a 7x7 kernel (7, 7, C, D).",
            hint="The file is not whole, or of another kind of model.",
        )
    fields: dict[str, Any] = STYLES["v2"] | {
        "image_size": LARGE,
        "channels": root[2],
        "depths": depths_in(shapes),
        "width_factor": root[3] / STEM_WIDTH,
        "style": "v2",
        "num_classes": (shapes.get(f"{HEAD}/kernel") or (0,))[-1],
    }
    config = bit_config(header, **fields)
    rules = rooted(bit_rules(config), lambda name: actual.get(name, name))
    rules += [ignored(name, "the training step") for name in header.shapes if name == "global_step"]
    return Recognised(
        config,
        rules,
        squashed(config.image_size),
        scores=scores_of(config.num_classes),
        said=assumed("the file does not say it", "image_size"),
        prepared=Said("assumed", "as big_transfer evaluates"),
    )


def plain(name: str) -> str:
    """A variable's name without the number that TensorFlow puts behind a layer's."""
    return re.sub(r"(conv2d|group_norm)_\d+(?=/)", r"\1", name)


def depths_in(names: Mapping[str, object] | Sequence[str]) -> tuple[int, ...]:
    """Units of each stage."""
    found = {
        (int(match[1]), match[2])
        for name in names
        if (match := re.match(r"resnet/block([0-9]{1,3})/unit([0-9]{1,3})/", name))
    }
    return tuple(count for _, count in sorted(Counter(stage for stage, _ in found).items()))


def bit_rules(config: BiTConfig) -> list[Rule]:
    """Every tensor, ours and theirs."""
    rules = [renamed("stem.conv.weight", ROOT, CONV)]
    for stage, units in enumerate(config.depths):
        for unit in range(units):
            ours = f"stages.{stage}.blocks.{unit}"
            theirs = f"resnet/block{stage + 1}/unit{unit + 1:02d}"
            for number, letter in enumerate("abc", 1):
                kernel = f"{theirs}/{letter}/standardized_conv2d/kernel"
                rules += group_norm(f"{ours}.norm{number}", f"{theirs}/{letter}")
                rules += [renamed(f"{ours}.conv{number}.weight", kernel, CONV)]
            if unit == 0:
                kernel = f"{theirs}/a/proj/standardized_conv2d/kernel"
                rules += [renamed(f"{ours}.downsample.conv.weight", kernel, CONV)]
    rules += group_norm("norm", "resnet")
    if config.num_classes:
        rules += [
            renamed("head.fc.weight", f"{HEAD}/kernel", CONV),
            renamed("head.fc.bias", f"{HEAD}/bias"),
        ]
    return rules


def group_norm(ours: str, theirs: str) -> list[Rule]:
    """A GroupNorm."""
    return [
        renamed(f"{ours}.weight", f"{theirs}/group_norm/gamma"),
        renamed(f"{ours}.bias", f"{theirs}/group_norm/beta"),
    ]


def squashed(size: tuple[int, int]) -> Preprocess:
    """The whole image at this size, values in [-1, 1] (big_transfer `train.py`)."""
    return Preprocess(height=size[0], width=size[1], resize=size, interpolation="bilinear")


def write(config: PublishedConfig, preprocess: Preprocess, classes: Sequence[str]) -> ExportLayout:
    """Rules and notes for a file that big_transfer reads. Raises ModelError VIT-417."""
    if not isinstance(config, BiTConfig):
        raise cannot_hold(NAME, "it is a Vision Transformer; try --to google")
    require(NAME, config, HELD)
    height, width = config.image_size
    notes = [f"the image size {height} x {width} px is not stored: state it when reading"]
    notes += [f"class names are not stored ({', '.join(classes[:3])} ...)"] if classes else []
    if preprocess != squashed(config.image_size):
        notes.append("the preprocessing is not stored, and is another than these files' own")
    return ExportLayout(bit_rules(config), "npz", notes=tuple(notes))


BIT = Origin(NAME, recognise, write, resample="google")

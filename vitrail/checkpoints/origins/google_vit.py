"""A Vision Transformer in Flax arrays: what the names and shapes say, and the rules to read it.

Shared by `google.py` and `big_vision.py`, whose files differ in the root of the names, in the
numbers of a block's modules, and in where the position table lies and whether it has a row for the
class token. Each is found by itself, since files of every mixture exist (big_vision
`models/vit.py:fix_old_checkpoints`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.checkpoints.mapping.fact import Said, assumed
from vitrail.checkpoints.mapping.origin import given_size, square, vit_config
from vitrail.checkpoints.mapping.rules import CONV, Header, Rule, Shape, ignored, renamed
from vitrail.checkpoints.origins import google_blocks as flax
from vitrail.errors import ModelError
from vitrail.models.vit.config import ViTConfig

OLD_TABLE = "Transformer/posembed_input/pos_embedding"  # with a row for cls
NEW_TABLE = "pos_embedding"  # of the patches alone
NUM_I21K = 21_843  # classes of ImageNet-21k, whose heads were trained with a sigmoid each
DEFAULT_SIZE = (224, 224)
# What the files do not store because it is the same in every one.
FIXED: dict[str, object] = {"ln_eps": 1e-6, "gelu": "gelu_tanh"}
# These libraries have one activation and one eps, whatever the file.
SAID = {field: Said("row", "as in the library's code") for field in FIXED}
FIXED_STEM: dict[str, object] = {"std_eps": 1e-5, "std_form": "outside", "gn_eps": 1e-6}


@dataclass(frozen=True)
class FlaxFile:
    """Tensors below the root of one model. root: as "params/img/"; shapes: by name without it;
    others: full names that lie elsewhere, of an optimiser or a text tower.
    """

    name: str  # of the file
    root: str
    shapes: Mapping[str, Shape]
    others: tuple[str, ...]

    def shape(self, name: str, rank: int) -> Shape:
        """The shape of a tensor that must be there. Raises ModelError VIT-418."""
        shape = self.shapes.get(name, ())
        if len(shape) != rank:
            found = f"has shape {shape}" if name in self.shapes else "is missing"
            raise ModelError(
                "VIT-418",
                f"{self.name}: {self.root}{name} {found}; expected an array of {rank} axes.",
                hint="The file is not whole, or of another kind of model.",
            )
        return shape

    @property
    def is_call_order(self) -> bool:
        """Whether blocks number their modules in the order of calls."""
        return any("/MultiHeadDotProductAttention_1/" in name for name in self.shapes)

    @property
    def is_old(self) -> bool:
        """Whether vision_transformer wrote it, not big_vision."""
        return OLD_TABLE in self.shapes or self.is_call_order


def flax_file(header: Header, key: str, rank: int) -> FlaxFile | None:
    """The part of a file that holds the model with a tensor `key`; None where there is none.

    Of several, the one below "params/" or "target/" wins, then the one with the shortest root.
    """
    roots = [
        name.removesuffix(key)
        for name, shape in header.shapes.items()
        if len(shape) == rank and (name == key or name.endswith(f"/{key}"))
    ]
    if not roots:
        return None
    root = min(roots, key=lambda root: (not root.startswith(("params", "opt/target")), len(root)))
    shapes = {
        name.removeprefix(root): shape
        for name, shape in header.shapes.items()
        if name.startswith(root)
    }
    others = tuple(name for name in header.shapes if not name.startswith(root))
    return FlaxFile(header.name, root, shapes, others)


def vit_fields(header: Header, file: FlaxFile) -> tuple[ViTConfig, dict[str, Said]]:
    """The architecture, and who says what the file's shapes do not.

    Raises ModelError VIT-418 or VIT-420.
    """
    is_scan = any(name.startswith(flax.SCAN) for name in file.shapes)
    names = flax.CALL_ORDER if file.is_call_order else flax.CLASS_ORDER
    block = flax.SCAN if is_scan else "Transformer/encoderblock_0/"
    *patch, _, width = file.shape("embedding/kernel", 4)
    query = file.shape(f"{block}{names.attention}/query/kernel", 3 + is_scan)
    hidden = file.shape(f"{block}{names.mlp}/Dense_0/kernel", 2 + is_scan)
    fields: dict[str, Any] = FIXED | {
        "patch_size": tuple(patch),
        "channels": file.shape("embedding/kernel", 4)[2],
        "width": width,
        "depth": query[0] if is_scan else _depth(file),
        "num_heads": query[-2],
        "mlp_dim": hidden[-1],
        "num_classes": file.shape("head/kernel", 2)[1] if "head/kernel" in file.shapes else 0,
        "cls_token": "cls" in file.shapes,
        "pool": _pool(file),
    }
    if "pre_logits/kernel" in file.shapes:
        fields["representation_size"] = file.shape("pre_logits/kernel", 2)[1]
    stride = 1
    if "conv_root/kernel" in file.shapes:
        stem = _stem_fields(file)
        stride = 4 * 2 ** max(0, len(stem["stem_stages"]) - 1)
        fields |= stem
    size, said = _positions(header, file, (patch[0] * stride, patch[1] * stride))
    return vit_config(header, **(fields | size)), SAID | said


def vit_rules(file: FlaxFile, config: ViTConfig) -> list[Rule]:
    """How the tensors of `file` become ours."""
    table = next((name for name in (OLD_TABLE, NEW_TABLE) if name in file.shapes), None)
    rules = [renamed("cls_token", "cls")] if config.cls_token else []
    rules += [renamed("pos_embed", table)] if table else []
    rules += encoder_rules(
        config,
        flax.CALL_ORDER if file.is_call_order else flax.CLASS_ORDER,
        file.shapes,
        is_scan=any(name.startswith(flax.SCAN) for name in file.shapes),
    )
    rules = flax.rooted(rules, lambda name: file.root + name)
    return rules + [ignored(name, "in addition to the model") for name in file.others]


def encoder_rules(
    config: ViTConfig,
    names: flax.BlockNames,
    shapes: Mapping[str, Shape],
    *,
    is_scan: bool = False,
) -> list[Rule]:
    """All but the class token and the positions. shapes: of theirs, where there is a file."""
    c = config
    rules: list[Rule] = []
    if c.stem == "resnet":
        backbone = "patch_embed.backbone."
        root = f"{backbone}stem." if c.stem_stages else backbone
        rules += flax.resnet(root, backbone, c.stem_stages, shapes)
    rules += [
        renamed("patch_embed.proj.weight", "embedding/kernel", CONV),
        renamed("patch_embed.proj.bias", "embedding/bias"),
    ]
    rules += flax.blocks(names, c.depth, c.width, c.num_heads, is_scan=is_scan)
    rules += flax.map_head(c.width, c.num_heads) if c.pool == "map" else []
    rules += flax.dense("pre_logits", "pre_logits") if c.representation_size else []
    return rules + (flax.dense("head", "head") if c.num_classes else [])


def scores_of(num_classes: int) -> Literal["softmax", "sigmoid"]:
    """ImageNet-21k heads were trained with a sigmoid a class, the others with a softmax."""
    return "sigmoid" if num_classes == NUM_I21K else "softmax"


def _depth(file: FlaxFile) -> int:
    found = {
        match[1]
        for name in file.shapes
        if (match := re.match(r"Transformer/encoderblock_(\d+)/", name))
    }
    return len(found)


def _pool(file: FlaxFile) -> str:
    if any(name.startswith("MAPHead_0/") for name in file.shapes):
        return "map"
    return "cls" if "cls" in file.shapes else "gap"


def _stem_fields(file: FlaxFile) -> dict[str, Any]:
    """The ResNet before the patches."""
    root = file.shape("conv_root/kernel", 4)
    return FIXED_STEM | {
        "stem": "resnet",
        "stem_stages": flax.stages_in(list(file.shapes)),
        "stem_width": root[3],
        "channels": root[2],
    }


def _positions(
    header: Header, file: FlaxFile, step: tuple[int, int]
) -> tuple[dict[str, Any], dict[str, Said]]:
    """Image size and kind of positions. step: px from one patch to the next."""
    has_cls = "cls" in file.shapes
    square_said = {} if given_size(header) else assumed("a square grid of patches", "image_size")
    if OLD_TABLE in file.shapes:
        rows = file.shape(OLD_TABLE, 3)[1]
        size = square(header, rows, int(has_cls), step)
        return {"image_size": size, "posemb": "learned", "posemb_prefix": has_cls}, square_said
    if NEW_TABLE in file.shapes:
        rows = file.shape(NEW_TABLE, 3)[1]
        # Early files have a row for cls here too; a square number of rows has none.
        has_row = (
            has_cls and math.isqrt(rows) ** 2 != rows and math.isqrt(rows - 1) ** 2 == rows - 1
        )
        if (stated := given_size(header)) is not None and min(step) > 0:
            has_row = has_cls and rows == 1 + (stated[0] // step[0]) * (stated[1] // step[1])
        size = square(header, rows, int(has_row), step)
        return {"image_size": size, "posemb": "learned", "posemb_prefix": has_row}, square_said
    fields = {"image_size": given_size(header) or DEFAULT_SIZE, "posemb": "sincos_2d"}
    return fields, assumed("the file has no position table", *fields)

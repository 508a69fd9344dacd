"""`--map FILE`: a home-made ViT read by a table of names that its owner writes, in TOML.

    [names]                                       # theirs = ours; {i}: a block's number
    "embed.proj" = "patch_embed.proj"             # weight and bias, where both are there
    "layers.{i}.attn.in_proj_weight" = "blocks.{i}.attn.qkv.weight"
    "layers.{i}.q" = "blocks.{i}.attn.q"          # q, k, v (or q, kv) are joined to qkv
    "layers.{i}.heads.{h}.q" = "blocks.{i}.attn.q"    # {h}: an attention head; joined too

    [model]                                       # what no tensor says: all five are needed
    num_heads = 4
    gelu = "gelu"                                 # or gelu_tanh, quick_gelu, relu
    ln_eps = 1e-5
    block = "pre"                                 # or post, branch, between
    pool = "cls"                                  # or gap

What the table leaves over is an error: a tensor without a place would be a model that is nearly
right. Nothing of the file is run; `read` makes views, transpositions and joins alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError
from torch import Tensor

from vitrail.checkpoints.formats.limits import MAX_JSON_BYTES
from vitrail.checkpoints.formats.open_file import OpenFile
from vitrail.checkpoints.mapping.evaluation_crops import HALF, squash
from vitrail.checkpoints.mapping.fact import Said, with_given
from vitrail.checkpoints.mapping.origin import Recognised, given, vit_config
from vitrail.checkpoints.mapping.rules import Header, Shape, implied, listed
from vitrail.checkpoints.mapping.scratch import Memory
from vitrail.checkpoints.mapping.wrappers import WrappedFile, left_beside
from vitrail.checkpoints.origins.torch_layout import Layout
from vitrail.data.images.preprocess import Preprocess
from vitrail.documents import parse_toml
from vitrail.errors import ModelError, UsageError, nearest
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.fields import Gelu, Order, Pool
from vitrail.spelling import count

NAME = "map"
STATED: dict[str, str] = {
    "num_heads": "a whole number",
    "gelu": " | ".join(get_args(Gelu)),
    "ln_eps": "as 1e-5",
    "block": " | ".join(get_args(Order)),
    "pool": " | ".join(get_args(Pool)),
}
TABLES = ("names", "model", "preprocess", "classes", "zeros", "patch_order", "qkv_order")
ORDERS = {"patch_order": ("chw", "hwc"), "qkv_order": ("qkv", "by_head")}
JOINED = ("q", "k", "v"), ("q", "kv")
PARTS = ("weight", "bias")
KERNEL, QKV = "patch_embed.proj.weight", re.compile(r"blocks\.\d+\.attn\.qkv\.(weight|bias)")
FREE_SHAPE = ("cls_token", "dist_token", "reg_token", "pos_embed")  # (D,) as (1, 1, D)


@dataclass(frozen=True)
class NameMap:
    """A table of names as it was read. source: its file, for messages; names: theirs to ours;
    model: fields of the architecture; zeros: tensors of ours that the file does not have;
    patch_order: of a linear kernel's columns; qkv_order: of the rows of qkv.
    """

    source: str
    names: Mapping[str, str]
    model: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    patch_order: str = ""
    qkv_order: str = "qkv"


@dataclass(frozen=True)
class MappedTensor:
    """A tensor of ours: theirs in the order in which they are joined, and the shape it gets."""

    theirs: tuple[str, ...]
    shape: Shape


def read_map(path: Path) -> NameMap:
    """Raises UsageError VIT-228 for a file that is no such table, or leaves something unsaid."""
    try:
        file = OpenFile(path, path.name)
        values = parse_toml(file.bytes_at(0, MAX_JSON_BYTES).decode("utf-8"))
    except (OSError, ValueError, ModelError) as error:
        raise _wrong(path.name, f"it cannot be read as TOML: {error}") from error
    file.close()
    _check(path.name, values)
    return NameMap(
        path.name,
        values["names"],
        values["model"],
        values.get("preprocess", {}),
        classes=tuple(map(str, values.get("classes", ()))),
        zeros=tuple(map(str, values.get("zeros", ()))),
        patch_order=values.get("patch_order", ""),
        qkv_order=values.get("qkv_order", "qkv"),
    )


def _check(name: str, values: Mapping[str, Any]) -> None:
    """Raises UsageError VIT-228 for entries that are not known, of another kind, or missing."""
    for key in values:
        if key not in TABLES:
            raise _wrong(name, f"unknown entry {key!r}. {nearest(key, TABLES)}")
    names, model = values.get("names", {}), values.get("model", {})
    if not _is_texts(names) or not names or not isinstance(model, dict):
        raise _wrong(name, "expected a table [names] of texts, theirs = ours, and [model]")
    absent = [f"{key} = ... ({what})" for key, what in STATED.items() if key not in model]
    if absent:
        raise _wrong(name, "[model] does not state " + ", ".join(absent))
    if not isinstance(values.get("preprocess", {}), dict):
        raise _wrong(name, "[preprocess] is no table")
    for key in ("classes", "zeros"):
        if not isinstance(values.get(key, []), list):
            raise _wrong(name, f"{key} is no list of texts")
    _check_values(name, values)


def _check_values(name: str, values: Mapping[str, Any]) -> None:
    """Raises UsageError VIT-228 for a value of another kind."""
    for key in values["model"]:
        if key not in ViTConfig.model_fields:
            raise _wrong(name, f"[model] {key}: {nearest(key, ViTConfig.model_fields)}")
    for key, choices in ORDERS.items():
        if values.get(key, choices[0]) not in choices:
            raise _wrong(name, f"{key} is {values[key]!r}; expected {' or '.join(choices)}")


def _is_texts(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(item, str) for item in values.values())


class Mapped:
    """The tensors of a file under our names, joined and in our shapes."""

    def __init__(self, source: WrappedFile, header: Header, rules: NameMap) -> None:
        """header: of the source, with what is given. Raises ModelError VIT-424, VIT-413."""
        self.source, self.rules = source, rules
        self.num_heads = int(given(header, "num_heads", rules.model["num_heads"]))
        self.parts, self.left = places(header, rules)
        shapes = {name: part.shape for name, part in self.parts.items()}
        self.header = replace(header, shapes=shapes, dtypes={})

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values in float32. Raises ModelError VIT-412."""
        part = self.parts[name]
        values = [self.source.read(theirs).float() for theirs in part.theirs]
        whole = torch.cat(values) if len(values) > 1 else values[0]
        if name == KERNEL and self.rules.patch_order == "hwc" and whole.ndim == 2:
            width, channels, *patch = part.shape
            return whole.reshape(width, *patch, channels).permute(0, 3, 1, 2).contiguous()
        if QKV.fullmatch(name) and self.rules.qkv_order == "by_head":
            rows = whole.reshape(self.num_heads, 3, -1, *whole.shape[1:])
            return rows.transpose(0, 1).reshape(whole.shape).contiguous()
        return whole.reshape(part.shape).contiguous()


def places(header: Header, rules: NameMap) -> tuple[dict[str, MappedTensor], list[str]]:
    """Where each tensor of ours comes from, and the names of theirs that no rule takes.

    Raises ModelError VIT-424 for a rule that takes nothing, VIT-413 for shapes that do not join.
    """
    found: dict[str, list[tuple[tuple[int, ...], str]]] = {}
    taken: set[str] = set()
    for left, right in rules.names.items():
        matched = _matches(header, left, right)
        if not matched:
            raise ModelError(
                "VIT-424",
                f"{rules.source}: {left!r} is no tensor of {header.name}.",
                hint=f"{nearest(left, header.shapes)} A line is theirs = ours.",
            )
        for theirs, ours, order in matched:
            found.setdefault(ours, []).append((order, theirs))
            taken.add(theirs)
    ordered = {ours: tuple(name for _, name in sorted(parts)) for ours, parts in found.items()}
    joined = _joined(ordered)
    shapes = {ours: _shape(header, rules, ours, theirs) for ours, theirs in joined.items()}
    parts = {ours: MappedTensor(theirs, shapes[ours]) for ours, theirs in joined.items()}
    return parts, [name for name in header.shapes if name not in taken]


def _matches(header: Header, left: str, right: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """(theirs, ours, number of the head) of every tensor that a line of the table takes."""
    found: list[tuple[str, str, tuple[int, ...]]] = []
    for part in ("", *(f".{part}" for part in PARTS)):
        form = (
            re.escape(left + part).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{h\}", r"(?P<h>\d+)")
        )
        for name in header.shapes:
            if match := re.fullmatch(form, name):
                groups = match.groupdict()
                ours = (right + part).replace("{i}", groups.get("i") or "{i}")
                found.append((name, ours, (int(groups.get("h") or 0),)))
    return found


def _joined(found: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """q, k and v of a block, or q and kv, become qkv."""
    whole = dict(found)
    for name in found:
        match = re.fullmatch(r"(blocks\.\d+\.attn\.)q\.(weight|bias)", name)
        if match is None:
            continue
        for kinds in JOINED:
            names = [f"{match[1]}{kind}.{match[2]}" for kind in kinds]
            if all(part in whole for part in names):
                parts = tuple(theirs for part in names for theirs in whole.pop(part))
                whole[f"{match[1]}qkv.{match[2]}"] = parts
    return whole


def _shape(header: Header, rules: NameMap, ours: str, theirs: tuple[str, ...]) -> Shape:
    """The shape of a tensor of ours. Raises ModelError VIT-413."""
    shapes = [header.shapes[name] for name in theirs]
    if len({shape[1:] for shape in shapes}) > 1 or any(not shape for shape in shapes):
        found = ", ".join(f"{name} {header.shapes[name]}" for name in theirs)
        raise ModelError("VIT-413", f"{header.name}: {found} cannot be joined to {ours}.")
    shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    if ours in FREE_SHAPE:
        return (1, prod(shape[:-1]), shape[-1])
    if ours == KERNEL and len(shape) == 2:
        return _kernel(header, rules, shape)
    return shape


def _kernel(header: Header, rules: NameMap, shape: Shape) -> Shape:
    """(D, C, h, w) of a linear patch kernel (D, h*w*C). Raises UsageError VIT-228."""
    if not rules.patch_order:
        raise _wrong(
            rules.source,
            'the patch kernel is a matrix: state patch_order = "hwc" '
            '(as einops\' p1 p2 c) or "chw"',
        )
    channels = rules.model.get("channels", 3)
    stated = rules.model.get("patch_size")
    pixels = shape[1] // channels if isinstance(channels, int) and channels > 0 else 0
    side = int(pixels**0.5 + 0.5)
    pair = (stated, stated) if isinstance(stated, int) else tuple(stated or (side, side))
    if prod(pair) * channels != shape[1]:
        raise _wrong(
            rules.source,
            f"{count(shape[1], 'column')} of the patch kernel are no square of "
            f"{count(channels, 'channel')}: state "
            "patch_size and channels in [model]",
        )
    return (shape[0], channels, *pair)


def recognise_mapped(mapped: Mapped) -> tuple[Recognised, dict[str, str], list[str]]:
    """The model, what lies beside it with the reason, and what the table leaves over.

    Raises ModelError VIT-418 to VIT-420 as for other files.
    """
    rules = mapped.rules
    header = with_given(mapped.header, rules.model, Said("stated", rules.source))
    layout = Layout(header, lambda name: name)
    fields = layout.fields()
    has_norm = "norm.weight" in layout.shapes or bool(fields["norm_after_pool"])
    config = vit_config(header, **(fields | {"final_norm": has_norm}))
    model, made = layout.model_and_rules(config, {})
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    zeros = [name for name in rules.zeros if name in shapes]
    made = [rule for rule in made if not set(zeros).intersection(rule.ours)]
    made += [implied(name, torch.zeros(shapes[name]), "zero by the map") for name in zeros]
    beside = left_beside(mapped.left)
    over = [name for name in mapped.left if name not in beside]
    told = (
        Said("stated", rules.source)
        if rules.preprocess
        else Said("assumed", "the map has no [preprocess]")
    )
    found = Recognised(
        config,
        made,
        _preprocess(rules, config),
        rules.classes,
        resample="timm",
        model=model,
        said=layout.said | dict.fromkeys(rules.model, Said("stated", rules.source)),
        prepared=told,
    )
    return found, beside, over


def _preprocess(rules: NameMap, config: ViTConfig) -> Preprocess:
    """[preprocess], or the whole image squashed. Raises UsageError VIT-228."""
    usual = squash(config.image_size, "bilinear", (HALF, HALF), config.channels)
    height, width = config.image_size
    values = usual.model_dump() | dict(rules.preprocess) | {"height": height, "width": width}
    try:
        return Preprocess(**values)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"[preprocess] {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise _wrong(rules.source, what) from error


def check_over(rules: NameMap, over: list[str]) -> None:
    """Raises ModelError VIT-424 for tensors that the table leaves over."""
    if over:
        raise ModelError(
            "VIT-424",
            f"{rules.source} leaves over {listed(over)}.",
            hint="Each tensor needs a line theirs = ours; a part that Vitrail's ViT does not have "
            "cannot be read.",
        )


def _wrong(source: str, what: str) -> UsageError:
    return UsageError(
        "VIT-228", f"--map {source}: {what}.", hint="docs/checkpoints.md has two whole examples."
    )

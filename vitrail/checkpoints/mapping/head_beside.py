"""A classifier beside the model that it reads: `backbone.*` with `fc.*`, `model.net.*` with
`model.head.1.*`, the second module of a Sequential.

Such a file is a wrapper and its model, as below any prefix, where the classifier is one Linear of
as many inputs as the model gives. What the wrapper does between the two is in no tensor: that
nothing lies between them, and which tokens it pools, is assumed and said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from vitrail.checkpoints.mapping.fact import Fact, Said, sources_of
from vitrail.checkpoints.mapping.origin import Origin, Recognised
from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.checkpoints.mapping.wrappers import NUMBER, View
from vitrail.models.vit.config import ViTConfig

HEAD_WORDS = r"\w*head\w*|fc|\w*classifier\w*|cls_layer|linear|logits|last_layer"
HEAD = re.compile(rf"({HEAD_WORDS})(\.\w+)*")
BESIDE_HEAD = "head beside"  # Header.metadata of a view whose classifier was put in its place
WHY = "as the model alone; what the wrapper gives its head is in no tensor"


def head_beside(view: View, unknown: Sequence[str], whole: Header) -> str:
    """The layer, as "model.fc", of the one Linear among `unknown` that stands beside the view's
    prefix; "" where there is none, or more than that. whole: of the file.
    """
    layers = {name.rpartition(".")[0] for name in unknown if _is_head(view.prefix, name)}
    if len(layers) != 1:
        return ""
    layer = layers.pop()
    parts = {name for name in unknown if name.rpartition(".")[0] == layer}
    weight = whole.shapes.get(f"{layer}.weight", ())
    expected = {f"{layer}.weight": weight, f"{layer}.bias": weight[:1]}
    is_linear = is_layer(weight) and all(expected.get(p) == whole.shapes[p] for p in parts)
    return layer if is_linear else ""


def is_layer(weight: Shape) -> bool:
    """Whether a weight is of a Linear, (K, D), or of a convolution of 1 x 1 px, (K, D, 1, 1), as
    BiT's classifier is.
    """
    return len(weight) == 2 or weight[2:] == (1, 1)


def _is_head(prefix: str, name: str) -> bool:
    """Whether a tensor belongs to a classifier within one of the modules around the prefix, or to
    a later module of the Sequential that the model is in.
    """
    parts = prefix.removesuffix(".").split(".")
    for depth in range(len(parts)):
        around = "".join(f"{part}." for part in parts[:depth])
        if not name.startswith(around):
            return False
        rest = name.removeprefix(around)
        if HEAD.fullmatch(rest):
            return True
        place, own = rest.partition(".")[0], parts[depth]
        if NUMBER.fullmatch(place) and NUMBER.fullmatch(own) and int(place) > int(own):
            return True
    return False


def with_head(view: View, layer: str, origin: Origin, whole: Header) -> View | None:
    """The view with the layer where the origin has its classifier; None where it has no place."""
    if not origin.head:
        return None
    theirs = {
        f"{origin.head}.{part}": f"{layer}.{part}"
        for part in ("weight", "bias")
        if f"{layer}.{part}" in whole.shapes
    }
    header = replace(
        view.header,
        shapes={**view.header.shapes, **{own: whole.shapes[t] for own, t in theirs.items()}},
        dtypes={
            **view.header.dtypes,
            **{own: whole.dtypes[t] for own, t in theirs.items() if t in whole.dtypes},
        },
        metadata={**view.header.metadata, BESIDE_HEAD: layer},
    )
    beside = tuple(name for name in view.beside if name not in theirs.values())
    return View(view.prefix, header, {**view.theirs, **theirs}, beside)


def is_beside(header: Header) -> bool:
    """Whether the classifier of a view stood beside it in the file."""
    return BESIDE_HEAD in header.metadata


def joined_with(
    found: Recognised, alone: Recognised, header: Header, whole: Header
) -> Recognised | None:
    """The model with its head, and what is assumed of them; None where the head makes another
    model of it than it was alone, so that nobody knows what the head reads, or has other inputs.
    """
    layer = str(header.metadata[BESIDE_HEAD])
    config = found.config
    other: dict[str, object] = {"num_classes": config.num_classes}
    if isinstance(config, ViTConfig):
        if config.representation_size is not None:
            return None  # a layer before the head may be read or passed by
        is_dino = config.pool == "cls_gap"  # whose classifier has inputs for both
        other |= {"pool": "cls_gap"} if is_dino else {}
    if config != alone.config.model_copy(update=other):
        return None
    width = config.pooled_width if isinstance(config, ViTConfig) else config.num_features
    if whole.shapes[f"{layer}.weight"][1] != width:
        return None
    head = Fact("head", layer, "assumed", "one Linear on what the model gives", (), "--map FILE")
    said = dict(found.said)
    if isinstance(config, ViTConfig) and "pool" not in sources_of(header):
        said["pool"] = Said("assumed", WHY)
    return replace(found, said=said, more=(*found.more, head))

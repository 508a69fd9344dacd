"""What wraps a model in a file of training: prefixes of its names, and tensors that lie beside it.

DistributedDataParallel, torch.compile, Lightning, averaging and home-made modules put a model below
names of their own (`module.`, `model._orig_mod.`, `backbone.`), in any order and number. No list of
such words is kept: every prefix that many tensors share is a view of the file, and the view that a
layout fits is the model. What lies outside of it is left out only where its name says what it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

from torch import Tensor

from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.checkpoints.mapping.scratch import Memory

# What torch inserts anywhere in a name: compiled, sharded and recomputed modules.
INSERTED = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
MIN_TENSORS = 4  # of a view; the smallest model of one block has more
MAX_DEPTH, MAX_VIEWS = 6, 48
NUMBER = re.compile(r"\d+")
VIEW = "view"  # Header.metadata of a view: its prefix, and what lies beside
# Tensors that are no part of a classifier, told by their names.
BESIDE: tuple[tuple[str, str], ...] = (
    (r"(.*\.)?(n_averaged|num_updates|num_batches_tracked|global_step|epoch|step)", "a counter"),
    (r"(.*\.)?(criterion|loss|losses|loss_fn|loss_func|\w+_loss|\w+_criterion)\..*", "of the loss"),
    (
        r"(.*\.)?((train|val|valid|validation|test)_)?(metrics?|acc|accuracy|auroc|auc|f1|f1_score|"
        r"precision|recall|confusion_matrix|confmat|top[15]|acc[15]|acc_?top_?[15])\..*",
        "of a metric",
    ),
    (r"(.*\.)?(best_)?(acc|acc[15]|loss|top[15]|metric|prec1|score|accuracy)", "a figure"),
    (r"(optim|optimizers?|lr_schedulers?|schedulers?|scaler|grad_scaler)\..*", "of the optimizer"),
    (r"(.*\.)?(exp_avg|exp_avg_sq|momentum_buffer)(\..*)?", "of the optimizer"),
    (
        r"(.*\.)?(predictor|projector|projection_head|proj_head|dino_head|ibot_head|"
        r"momentum_encoder|momentum_backbone|prototypes)\..*",
        "only for pre-training",
    ),
    (
        r"(.*\.)?head\.(mlp\.\d+\.(weight|bias|running_mean|running_var)|last_layer\..*)",
        "projection head of pre-training",
    ),
    (r"(.*\.)?(queue|queue_ptr|mask_token|masked_embed|center)", "only for pre-training"),
    (
        r"(.*\.)?(decoder_embed|decoder_blocks|decoder_norm|decoder_pred)\..*|"
        r"(.*\.)?decoder_pos_embed",
        "decoder, makes pixels again while pre-training",
    ),
)
COMPILED = tuple((re.compile(pattern), reason) for pattern, reason in BESIDE)
TEXT_TOWER = re.compile(
    r"(text|text_model|transformer)\..*|token_embedding\.weight|positional_embedding|"
    r"text_projection(\.\w+)?|ln_final\.(weight|bias)|logit_scale|logit_bias|"
    r"visual\.head\..*|"
    r"attn_mask|input_resolution|context_length|vocab_size"
)


class View(NamedTuple):
    """A part of a file that may be the model. theirs: the file's name of each tensor by the name
    within the view; prefix: what was taken off in front; header: of the part alone; beside: names
    of all that lies outside.
    """

    prefix: str
    header: Header
    theirs: Mapping[str, str]
    beside: tuple[str, ...]


def views(header: Header) -> list[View]:
    """The whole file first, then every part below a prefix that some tensors share, outer ones
    first.
    """
    plain = _plain_names(header.shapes)
    counts: Counter[str] = Counter()
    for name in plain:
        parts = name.split(".")[:-1][:MAX_DEPTH]
        last = max((at for at, part in enumerate(parts) if NUMBER.fullmatch(part)), default=-1)
        for depth in range(1, len(parts) + 1):
            if depth - 1 == last:
                break  # a block, below which is no model; a number before it is a place in a list
            counts[".".join(parts[:depth]) + "."] += 1
    found = [prefix for prefix, count in counts.most_common(MAX_VIEWS) if count >= MIN_TENSORS]
    found.sort(key=lambda prefix: prefix.count("."))
    return [_view(header, plain, prefix) for prefix in ["", *found]]


def _plain_names(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The file's name by the name without torch's insertions; as they are where two become one."""
    plain = {INSERTED.sub("", name): name for name in shapes}
    return plain if len(plain) == len(shapes) else {name: name for name in shapes}


def _view(header: Header, plain: Mapping[str, str], prefix: str) -> View:
    inside = {
        name.removeprefix(prefix): theirs
        for name, theirs in plain.items()
        if name.startswith(prefix)
    }
    own = set(inside.values())
    beside = tuple(name for name in header.shapes if name not in own)
    part = replace(
        header,
        shapes={name: header.shapes[theirs] for name, theirs in inside.items()},
        dtypes={name: header.dtypes[t] for name, t in inside.items() if t in header.dtypes},
        metadata={**header.metadata, VIEW: {"prefix": prefix, "beside": beside}},
    )
    return View(prefix, part, inside, beside)


def prefix_of(header: Header) -> str:
    """What was taken off in front of the names of a view; "" of a whole file."""
    return str(header.metadata.get(VIEW, {}).get("prefix", ""))


def beside_of(header: Header) -> tuple[str, ...]:
    """The names that lie outside of a view."""
    return tuple(header.metadata.get(VIEW, {}).get("beside", ()))


class WrappedFile(Protocol):
    """An open file of tensors."""

    header: Header

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file."""


class Unwrapped:
    """The tensors of a view under its names."""

    def __init__(self, source: WrappedFile, view: View) -> None:
        self.source, self.view = source, view
        self.header = view.header

    def read(self, name: str, memory: Memory | None = None) -> Tensor:
        """The values, in the dtype of the file. Raises ModelError VIT-412."""
        return self.source.read(self.view.theirs[name], memory)


def reason_beside(name: str, tower: str | None = None) -> str:
    """Why a tensor of that name is no part of a classifier; "" where nobody knows. tower: what
    stands before the image tower of a model of images and texts.
    """
    plain = INSERTED.sub("", name)
    if tower is not None and TEXT_TOWER.fullmatch(plain.removeprefix(tower)):
        return "of the text tower"
    return next((reason for form, reason in COMPILED if form.fullmatch(plain)), "")


def left_beside(names: Iterable[str], tower: str | None = None) -> dict[str, str]:
    """The reason of each name that has one."""
    reasons = {name: reason_beside(name, tower) for name in names}
    return {name: reason for name, reason in reasons.items() if reason}

"""A checkpoint for another task: other classes, image size, patch size or number of channels.

`adapt` takes the tensors of one configuration and gives those of another, and says every change in
one sentence; the caller prints them. Tensors that need no change are passed on as they are. How a
tensor changes is in `posemb_resize.py` (the checkpoint's family decides), `patch_resize.py` and
`adapt_head.py`. Whatever else differs between the two configurations is refused: weights would load
and mean something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.adapt.adapt_head import adapt_head, adapt_pre_logits
from vitrail.checkpoints.adapt.patch_resize import PATCH_RULES, adapt_channels, resize_patch
from vitrail.checkpoints.adapt.posemb_resize import (
    RULES,
    Grid,
    check_rule,
    resize_axis,
    resize_posemb,
    resize_relative,
)
from vitrail.checkpoints.adapt.request import AdaptRequest, State, shapes_of
from vitrail.checkpoints.mapping.rules import Shape
from vitrail.errors import ModelError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import ModelConfig
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.spelling import count

PATCHES = "patch_embed.proj.weight"
# The layer that sees pixels, the first of these that there is.
PIXEL_LAYERS = (
    "patch_embed.backbone.stem.conv.weight",
    "patch_embed.backbone.conv.weight",
    "stem.conv.weight",
    "patch_embed.convs.0.weight",
    PATCHES,
)
# What may differ: fields that change no tensor's meaning, and those whose change is made here.
FREE_FIELDS = {
    "image_size",
    "patch_size",
    "channels",
    "num_classes",
    "representation_size",
    "distillation_token",
    "head_bias_init",
    "dropout",
    "drop_path",
    "drop_path_schedule",
    "patch_drop",
    "patch_sizes",
    "patch_kernel",
    "posemb_grid",
    "max_patches",
    "posemb_resize",
}
# timm resizes patch kernels in its own way; for all other families FlexiViT is the reference.
PATCH_RULE_OF = {"timm": "pi_timm", "timm_npz": "pi_timm"}


def adapt(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    target: ModelConfig,
    *,
    resample: str,
    classes: Sequence[str] = (),
    target_classes: Sequence[str] = (),
    seed: int = 0,
) -> tuple[State, list[str]]:
    """The tensors of `target` made from those of `config`, and one sentence per change.

    resample: the family's rule (`posemb_resize.RULES`). classes, target_classes: names of the rows
    of the heads where they are known; see `adapt_head.py`. seed: of the values that are new.
    Raises ModelError: VIT-450 unknown rule, VIT-451 another architecture, VIT-452 tensors that are
    not those of `config`, VIT-453 a position table of another grid, VIT-454 names that do not fit.
    """
    check_rule(resample)
    _check_fields(config, target)
    _check_tensors(state, shapes_of(config))
    shapes = shapes_of(target)
    change = AdaptRequest(
        config, target, shapes, resample, tuple(classes), tuple(target_classes), seed
    )
    new = dict(state)
    sentences = [
        sentence
        for step in (
            _variable,
            _channels,
            _patches,
            _distillation,
            _posemb,
            adapt_pre_logits,
            adapt_head,
        )
        for sentence in step(change, new)
    ]
    _check_tensors(new, shapes)
    return {name: new[name] for name in shapes}, sentences


def target_config(
    config: ModelConfig,
    *,
    num_classes: int | None = None,
    image_size: Grid | int | None = None,
    patch_size: Grid | int | None = None,
    channels: int | None = None,
    keep_pre_logits: bool = True,
) -> ModelConfig:
    """`config` with what is given replaced: what `adapt` can reach.

    Without keep_pre_logits the tanh layer before the head is left out, as Google's own fine-tuning
    does (vision_transformer `load_pretrained`). Raises UsageError as the configuration itself:
    VIT-214 where patches do not fill the image, VIT-222 a value refused; ModelError VIT-451 for a
    patch size where there are no patches.
    """
    given = {
        "num_classes": num_classes,
        "image_size": image_size,
        "patch_size": patch_size,
        "channels": channels,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    is_resized = any(
        getattr(config, name, None) != changes.get(name, getattr(config, name, None))
        for name in ("image_size", "patch_size")
    )
    if is_resized and isinstance(config, ViTConfig):
        changes["drop_rest"] = False
    if num_classes == 0:
        changes["head_bias_init"] = 0.0
    if not keep_pre_logits and isinstance(config, ViTConfig):
        changes["representation_size"] = None
    if patch_size is not None and not isinstance(config, ViTConfig):
        raise ModelError(
            "VIT-451",
            f"{type(config).__name__}: patch_size={patch_size}, but this network has no patches.",
            hint="Leave patch_size out.",
        )
    return type(config)(**(config.model_dump() | changes))


def of_one_size(config: ModelConfig) -> ModelConfig:
    """`config` for images of one size, where it was of variable resolution."""
    if not isinstance(config, ViTConfig) or config.max_patches is None:
        return config
    changes = {"max_patches": None, "posemb_resize": "bilinear"}
    return ViTConfig(**(config.model_dump() | changes))


def _variable(change: AdaptRequest, new: State) -> list[str]:
    """Variable resolution is left behind or taken up; no tensor changes by that."""
    config, target = change.config, change.target
    if not isinstance(config, ViTConfig) or not isinstance(target, ViTConfig):
        return []
    if config.max_patches == target.max_patches:
        return []
    if target.max_patches is not None:
        return [
            f"max_patches: {target.max_patches} (before: {config.max_patches or 'one size'}); "
            "images keep their aspect ratio."
        ]
    return [
        f"max_patches: left out; trained on images of one size, {_by(target.image_size)} px, which "
        "are resized to it without regard to their aspect ratio."
    ]


def _channels(change: AdaptRequest, new: State) -> list[str]:
    name = next((name for name in PIXEL_LAYERS if name in new), None)
    if name is None or change.config.channels == change.target.channels:
        return []
    before, after = change.config.channels, change.target.channels
    new[name] = adapt_channels(new[name], after)
    how = "the sum over the channels"
    if after > 1:
        how = f"channels repeated in turn, times {before}/{after}"
    if _is_standardised(change.config):
        how += "; roughly, as this kernel is standardised"
    return [f"{name}: {count(before, 'input channel', 'becomes')} {after}: {how}."]


def _is_standardised(config: ModelConfig) -> bool:
    """Whether the kernel that sees pixels is."""
    if isinstance(config, ResNetConfig):
        return config.norm == "group_std"
    if isinstance(config, BiTConfig) or config.stem == "resnet":
        return True
    return config.stem == "residual" and config.stem_norm == "group_std"


def _patches(change: AdaptRequest, new: State) -> list[str]:
    if PATCHES not in new or PATCHES not in change.shapes:
        return []
    old, size = tuple(new[PATCHES].shape[2:]), change.shapes[PATCHES][2:]
    if old == size:
        return []
    rule = PATCH_RULE_OF.get(change.resample, "pi")
    new[PATCHES] = resize_patch(new[PATCHES], (size[0], size[1]), rule)
    how = PATCH_RULES[rule].text
    return [f"{PATCHES}: patches {_by(old)} become {_by(size)}: {how} (FlexiViT)."]


def _distillation(change: AdaptRequest, new: State) -> list[str]:
    """A distillation token comes or goes, with its row of the position table behind that of cls."""
    config, target = change.config, change.target
    if not isinstance(config, ViTConfig) or not isinstance(target, ViTConfig):
        return []
    wants = target.distillation_token
    if config.distillation_token == wants:
        return []
    if wants:
        new["dist_token"] = change.fresh("dist_token")
        text = "dist_token: new, drawn from normal(0.02)"
    else:
        del new["dist_token"]
        text = "dist_token: left out"
    if config.posemb_prefix:
        for name in _tables(new, "pos_embed"):
            table = new[name]
            row = [torch.zeros_like(table[:, :1])] if wants else []
            new[name] = torch.cat([table[:, :1], *row, table[:, 1 if wants else 2 :]], dim=1)
        text += "; its position row starts at zero" if wants else " with its position row"
    return [f"{text}."]


def _posemb(change: AdaptRequest, new: State) -> list[str]:
    """Whatever kind of position embedding there is, for the target's grid."""
    config, target, rule = change.config, change.target, change.resample
    if not isinstance(config, ViTConfig) or not isinstance(target, ViTConfig):
        return []
    kind = config.posemb
    if kind == "none" or config.kept_grid == target.kept_grid:
        return []
    before, after = config.kept_grid, target.kept_grid
    how = f"grid {_by(before)} becomes {_by(after)}"
    of_layers = f" of {count(config.depth, 'layer')}" if config.posemb_at == "every" else ""
    by_rule = f"{RULES[rule].text} (rule {rule!r})"
    if config.is_learned:
        num_prefix = target.posemb_prefix_rows
        for name in _tables(new, "pos_embed"):
            new[name] = resize_posemb(new[name], before, after, num_prefix, rule)
        kept = f"; {count(num_prefix, 'prefix row')} kept" if num_prefix else ""
        turns = "; the rotation is computed anew" if config.is_rotary else ""
        return [f"pos_embed{of_layers}: {how}: {by_rule}{kept}{turns}."]
    if kind == "learned_2d":
        for axis, kind_of_axis in enumerate(("pos_embed_y", "pos_embed_x")):
            for name in _tables(new, kind_of_axis):
                new[name] = resize_axis(new[name], after[axis], rule)
        return [f"pos_embed_y, pos_embed_x{of_layers}: {how}: {by_rule}, each along its axis."]
    if kind == "relative":
        names = [name for name in new if name.endswith(".attn.relative.keys")]
        for name in names:
            new[name] = resize_relative(new[name], before, after, config.num_prefix, rule)
        return [f"{len(names)} tables of relative offsets: {how}: {by_rule}, offset by offset."]
    return [f"posemb {kind}: {how}: the fixed table is computed anew."]


def _tables(new: State, kind: str) -> list[str]:
    """The names of the position table `kind`: the model's, and of blocks that have one."""
    return [name for name in new if name.split(".")[-1] == kind]


def _check_fields(config: ModelConfig, target: ModelConfig) -> None:
    """Raises ModelError VIT-451 where the two are not one network for different tasks."""
    if type(config) is not type(target):
        lines = [f"expected {type(target).__name__}, got {type(config).__name__}"]
    else:
        before, after = config.model_dump(), target.model_dump()
        lines = [
            f"{name}: expected {after[name]}, got {before[name]}"
            for name in before
            if name not in FREE_FIELDS
            and before[name] != after[name]
            and not (name == "layer_scale" and before[name] and after[name])  # only where it starts
        ]
    if lines:
        raise ModelError(
            "VIT-451",
            "the checkpoint is of another architecture than the model:\n  " + "\n  ".join(lines),
            hint="Only classes, image size, patch size and channels can be adapted: take the "
            "architecture of the checkpoint (leave --model out).",
        )


def _check_tensors(new: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> None:
    """Raises ModelError VIT-452 unless `new` has exactly the tensors of `shapes`."""
    found = {name: tuple(value.shape) for name, value in new.items()}
    lines = [
        f"{name}: expected {shapes.get(name, 'no such tensor')}, got {found.get(name, 'none')}"
        for name in sorted(set(shapes) | set(found))
        if shapes.get(name) != found.get(name)
    ]
    if lines:
        more = [f"and {len(lines) - 10} more"] if len(lines) > 10 else []
        raise ModelError(
            "VIT-452",
            "the checkpoint cannot be adapted:\n  " + "\n  ".join(lines[:10] + more),
            hint="The tensors are not those of the checkpoint's configuration.",
        )


def _by(size: Sequence[int]) -> str:
    return "x".join(str(side) for side in size)

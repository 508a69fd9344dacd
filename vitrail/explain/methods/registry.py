"""The methods by name, what each can be asked for, and the one function that runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from vitrail.errors import ModelError, UsageError, nearest
from vitrail.explain.methods import attention, gradcam, merged, pixels, relevance
from vitrail.explain.methods.maps import Layer, Maps, Request
from vitrail.explain.methods.walk import evaluating
from vitrail.models.create import Model, ResidualNet
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.merging import no_taps
from vitrail.spelling import count

MAX_STEPS = 1000


@dataclass(frozen=True)
class Method:
    """run(model, images (1, C, H, W), request); what it takes beside an image; of every model, or
    of those with attention only; whether it explains one class.
    """

    run: Callable[[Any, Tensor, Request], Maps]
    takes: frozenset[str]
    of_any_model: bool
    has_target: bool


METHODS = {
    "attention": Method(
        attention.raw_attention, frozenset({"layer", "head", "token"}), False, False
    ),
    "rollout": Method(attention.rollout, frozenset({"token"}), False, False),
    "relevance": Method(relevance.relevance, frozenset({"target", "token"}), False, True),
    "gradcam": Method(gradcam.gradcam, frozenset({"target", "layer"}), True, True),
    "integrated-gradients": Method(
        pixels.integrated_gradients, frozenset({"target", "steps"}), True, True
    ),
    "occlusion": Method(pixels.occlusion, frozenset({"target"}), True, True),
    "random": Method(pixels.chance, frozenset({"seed"}), True, False),
    "merging": Method(merged.merging, frozenset({"token"}), False, False),
}
OF_THE_INPUT = ("integrated-gradients", "occlusion", "random")  # that ask the model as it stands
OF_MERGED = (*OF_THE_INPUT, "merging")  # what a model that merges its tokens has


def methods_of(model: Model) -> list[str]:
    """The methods that make sense for a model, in the order of the table."""
    names = [name for name, method in METHODS.items() if _refusal(model, method) is None]
    if _is_merging(model):
        return [name for name in names if name in OF_MERGED]
    return [name for name in names if name != "merging"]


def _is_merging(model: Model) -> bool:
    return not isinstance(model, ResidualNet) and model.kept_tokens < 1


def _refusal(model: Model, method: Method) -> str | None:
    """Why the model has no such explanation."""
    if isinstance(model, ResidualNet) and not method.of_any_model:
        return "a residual network has no attention"
    if not model.config.num_classes and method.has_target:
        return "the model has no head, and so no class that could be explained"
    return None


def default_method(model: Model) -> str:
    """relevance; Grad-CAM for a residual network; occlusion with merged tokens; rollout, or chance,
    without classes.
    """
    names = methods_of(model)
    wanted = ("relevance", "gradcam", "rollout", "occlusion", "random")
    return next(name for name in wanted if name in names)


def explain(model: Model, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W), preprocessed. The model is left in the mode it was in.

    Raises UsageError VIT-270 to VIT-276 for a request that the model cannot answer, ModelError
    VIT-442 where the model's numbers are not finite.
    """
    request = checked(model, request)
    with evaluating(model):
        maps = METHODS[request.method].run(model, images.clone(), request)
    if not (np.isfinite(maps.grid).all() and np.isfinite(maps.logits).all()):
        raise ModelError(
            "VIT-442",
            f"{request.method}: the model gives numbers that are not finite for this image.",
            hint="Its weights are damaged or training diverged: load an earlier checkpoint.",
        )
    if request.token is None:
        return maps
    assert maps.matrix is not None
    rows, columns = maps.grid.shape
    _check_token(request.token, rows, columns)
    row = maps.matrix[request.token[0] * columns + request.token[1]]
    return replace(
        maps,
        grid=row.reshape(rows, columns),
        groups=None,
        facts={**maps.facts, "token": request.token},
    )


def checked(model: Model, request: Request) -> Request:
    """The request with its method and layer resolved. Raises UsageError VIT-270 to VIT-276."""
    name = request.method or default_method(model)
    if name not in METHODS:
        raise UsageError("VIT-270", f"unknown method {name!r}. {nearest(name, METHODS)}")
    method = METHODS[name]
    if _is_merging(model) and name not in OF_MERGED:
        raise no_taps()
    if name == "merging" and not _is_merging(model):
        raise UsageError(
            "VIT-288",
            "merging: this model merges no tokens.",
            hint="Say how many stay: --tokens 0.6",
        )
    if reason := _refusal(model, method):
        fitting = ", ".join(methods_of(model))
        is_other = isinstance(model, ResidualNet) and not method.of_any_model
        code = "VIT-271" if is_other else "VIT-272"
        raise UsageError(code, f"{name}: {reason}.", hint=f"Methods for this model: {fitting}")
    for option in ("layer", "head", "target", "token", "steps", "seed"):
        if getattr(request, option) is not None and option not in method.takes:
            taken = ", ".join(sorted(method.takes)) or "nothing"
            message = f"{option} has no effect with the method {name}, which takes {taken}."
            raise UsageError("VIT-273", message, hint="Leave it out, or choose another method.")
    request = replace(request, method=name, layer=_layer(model, name, request.layer))
    if not isinstance(model, ResidualNet):
        _check_place(model.config, request)
    if request.target is not None and not 0 <= request.target < model.config.num_classes:
        known = f"the model has {count(model.config.num_classes, 'class')}, from 0."
        raise UsageError(
            "VIT-276",
            f"target {request.target}: {known}",
            hint="Leave it out to explain the first choice.",
        )
    if request.steps is not None and not 1 <= request.steps <= MAX_STEPS:
        message = f"steps {request.steps}: expected 1 to {MAX_STEPS}."
        raise UsageError("VIT-202", message, hint="32 is enough for most models.")
    return request


def _layer(model: Model, method: str, layer: Layer | None) -> Layer | None:
    """A block from 0 or a name. Raises UsageError VIT-274 where the model has no such layer."""
    names = gradcam.feature_maps(model) if method == "gradcam" else []
    depth = 0 if isinstance(model, ResidualNet) else model.config.depth
    if method == "attention" and not isinstance(model, ResidualNet):
        default = attention.default_layer(model)
        names = [attention.POOL] if default == attention.POOL else []
        layer = default if layer is None else layer
    if layer is None or layer in names:
        return layer
    if isinstance(layer, int) and -depth <= layer < depth:
        return layer % depth
    known = [f"0 to {depth - 1}, or -1 to {-depth} from the last"] if depth else []
    raise UsageError(
        "VIT-274",
        f"layer {layer}: {method} of this model has {'; '.join(known + names)}.",
        hint="Choose one of these.",
    )


def _check_place(config: ViTConfig, request: Request) -> None:
    """Raises UsageError VIT-274 for a head, VIT-275 for a token that is not there."""
    is_pool = request.layer == attention.POOL
    heads, (h, w) = 1 if is_pool and config.pool == "seq" else config.num_heads, config.grid
    if request.head is not None and not 0 <= request.head < heads:
        message = f"head {request.head}: there are {heads}, from 0."
        raise UsageError("VIT-274", message, hint="For the mean of all, leave it out.")
    if request.token is None:
        return
    if is_pool:
        message = "token: the pooling head has one query, which is no patch."
        raise UsageError("VIT-275", message, hint="Name a block: layer -1 is the last.")
    if config.max_patches is None:  # else each image has a grid of its own
        _check_token(request.token, h, w)


def _check_token(token: tuple[int, int], h: int, w: int) -> None:
    """Raises UsageError VIT-275 for a patch that is not there."""
    row, column = token
    if not (0 <= row < h and 0 <= column < w):
        message = f"token {row},{column}: expected ROW,COLUMN of {h} x {w} patches, counted from 0."
        raise UsageError("VIT-275", message, hint=f"The last one is {h - 1},{w - 1}.")

"""Grad-CAM (arXiv 1610.02391) on tokens and on feature maps.

Channels are weighted by the mean over positions of the logit's gradient, summed, and cut at 0
(equations 1 and 2). Positions are the patch tokens that enter a block, the last one unless asked
otherwise (behind it, patch tokens of a cls model have no gradient); prefix tokens take no part. Of
residual networks, hybrids and convolutional tokenizers a feature map can be asked for by its name
in `tap.py`; a residual network's default is the last map (BiT's after norm and ReLU), the usual
Grad-CAM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.explain.methods.maps import Array, Layer, Maps, Request, array, best
from vitrail.explain.methods.walk import forward, input_gradient, output_gradient
from vitrail.models.create import Model, ResidualNet
from vitrail.models.layers.tap import TapDict, map_names

FEATURE_MAP = "feature_map"


def feature_maps(model: Model) -> list[str]:
    """Names of the maps (B, C, h, w) that the model can be asked for."""
    if isinstance(model, ResidualNet):
        return map_names(model.config)
    return [FEATURE_MAP] if model.config.stem != "none" else []


def gradcam(model: Model, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W). layer: a block, or the name of a feature map."""
    if isinstance(model, ResidualNet) or isinstance(request.layer, str):
        return _on_map(model, images, request.target, str(request.layer or FEATURE_MAP))
    config = model.config
    layer = config.depth - 1 if request.layer is None else request.layer
    trail = forward(model, images)
    grid = config.grid_of(images.shape[2], images.shape[3])
    target = best(trail.logits, request.target)
    gradient = output_gradient(model, trail, target)
    layers: dict[Layer, Array] = {}
    for index in range(config.depth - 1, layer - 1, -1):
        gradient = input_gradient(model, index, trail.inputs[index], gradient)
        tokens = trail.inputs[index][0, config.num_prefix :]  # (P, D)
        cam = weighted_channels(tokens, gradient[0, config.num_prefix :])
        layers[index] = array(cam.view(grid))
    ordered = dict(reversed(layers.items()))
    return Maps(layers[layer], array(trail.logits[0]), ordered, None, target, {"layer": layer})


def weighted_channels(values: Tensor, gradient: Tensor) -> Tensor:
    """Activations and the logit's gradient, (positions, channels) both. Returns (positions,)."""
    return (values @ gradient.mean(dim=0)).clamp(min=0)


def _on_map(model: Model, images: Tensor, target: int | None, name: str) -> Maps:
    store: TapDict = {name: None}
    with torch.enable_grad():
        logits = model(images.detach().requires_grad_(), tap=store)
        chosen, values = best(logits, target), store[name]
        assert values is not None
        slope = torch.autograd.grad(logits[0, chosen], values)[0]
    h, w = values.shape[2:]
    cam = weighted_channels(values[0].flatten(1).T, slope[0].flatten(1).T)  # (h w,)
    grid = array(cam.view(h, w))
    return Maps(grid, array(logits[0]), {name: grid}, None, chosen, {"layer": name})

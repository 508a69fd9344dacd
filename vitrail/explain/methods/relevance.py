"""Class-specific relevance: attention weighted by what it does for one logit.

Source: Chefer, Gur and Wolf, "Generic Attention-model Explainability" (arXiv 2103.15679), the rule
for self-attention: A-bar = mean over heads of max(0, gradient * A), and R = R + A-bar R from R = I
on, first layer to last. Here the layers come in the other order, as gradients do: starting
from I, M = M + M A-bar from the last layer to the first gives the same product. Only one layer's
attention and its gradient are alive at a time (`walk.py`).

The paper reads the cls row. A mean over tokens ("gap", "cls_gap", a distillation token) is read
with its own fixed weights (`reading.fixed_row`): which class is explained is in the gradients of
all layers. Weighting its rows by max(0, <gradient of the logit, token>) was tried and is no better
than random by insertion (docs/explain.md): such a weight says what the last layer's tokens hold,
not where they have it from, and it drowns all layers below. "map" and "seq" pool by attention a
without a residual, and the rule applies to it: the row is mean over heads of max(0, da * a).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.device import sent
from vitrail.explain.methods.maps import Array, Layer, Maps, Request, array, best
from vitrail.explain.methods.reading import fixed_row, grid_of, patch_grid, patch_matrix
from vitrail.explain.methods.walk import (
    Trail,
    attention_gradient,
    forward,
    input_gradient,
    logits_of,
    output_gradient,
)
from vitrail.models.layers.tap import Tap, TapDict
from vitrail.models.vit.model import ViT


def relevance(model: ViT, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W). `layers`: the relevance that comes from that layer to the last."""
    config = model.config
    patches = grid_of(config, images)
    trail = forward(model, images)
    target = best(trail.logits, request.target)
    row = relevance_row(model, trail, target)  # (N,)
    gradient = output_gradient(model, trail, target)
    gathered = torch.eye(len(row), dtype=row.dtype, device=row.device)
    layers: dict[Layer, Array] = {}
    for index in range(config.depth - 1, -1, -1):
        x = trail.inputs[index]
        gathered = gathered + gathered @ weighted_attention(
            *attention_gradient(model, index, x, gradient)
        )
        layers[index] = array(patch_grid(row @ gathered, config, patches))
        gradient = input_gradient(model, index, x, gradient) if index else gradient
    own = array(patch_matrix(gathered, config))
    ordered: dict[Layer, Array] = {index: layers[index] for index in range(config.depth)}
    return Maps(layers[0], array(trail.logits[0]), ordered, own, target, {"head": "mean"})


def weighted_attention(attention: Tensor, slope: Tensor) -> Tensor:
    """Mean over heads of max(0, gradient * A). Both (1, heads, N, N), reused. Returns (N, N)."""
    total = torch.zeros_like(attention[0, 0])
    for weights, gradient in zip(attention[0], slope[0], strict=True):  # a head at a time: no copy
        total += (weights * gradient).clamp_(min=0)
    return total / attention.shape[1]


def relevance_row(model: ViT, trail: Trail, target: int) -> Tensor:
    """What the logit takes from each token after the last block, (N,); see above."""
    row = fixed_row(model.config, trail.output.shape[1])
    if row is not None:
        return sent(row.to(trail.output.dtype), trail.output.device)
    with torch.enable_grad():
        store: TapDict = {"pool/attention": None}
        tap = Tap(store, ["pool/attention"])
        logit = logits_of(model, trail.output.detach().requires_grad_(), tap)[0, target]
        values = store["pool/attention"]  # (1, heads, 1, N)
        assert values is not None
        slope = torch.autograd.grad(logit, values)[0]
    return (values * slope).clamp(min=0).mean(dim=1)[0, 0].detach()

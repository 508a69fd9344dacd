"""Raw attention of a layer, and attention rollout. Both see only where tokens mix, no class.

Rollout (Abnar and Zuidema, arXiv 2005.00928) exactly as the authors of "An Image is Worth 16x16
Words" define it for Figure 6 (appendix D.8; google-research/vision_transformer issues 18 and 27):
attention is averaged over the heads, A' = A + I with rows scaled to sum 1 stands for a layer and
its residual, A'_L ... A'_1 is multiplied, and the row of the output is read. Dropping the lowest
values or taking the largest head are later inventions and not done.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.explain.methods.maps import Array, Layer, Maps, Request, array
from vitrail.explain.methods.reading import (
    WITH_PROBE,
    grid_of,
    num_tokens,
    patch_grid,
    patch_matrix,
    pool_attention,
    reading_row,
)
from vitrail.explain.methods.walk import logits_of, run_blocks
from vitrail.models.vit.model import ViT

POOL = "pool"  # the layer name of the pooling probe's attention


def default_layer(model: ViT) -> Layer:
    """The last block, or the pooling head where that attends itself."""
    return POOL if model.config.pool in WITH_PROBE else model.config.depth - 1


def raw_attention(model: ViT, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W). The attention of one layer, of one head or the mean of all."""
    patches = grid_of(model.config, images)
    layer = default_layer(model) if request.layer is None else request.layer
    facts = {"layer": layer, "head": "mean" if request.head is None else request.head}
    if layer == POOL:
        weights, logits = pool_attention(model, images)
        grid = array(patch_grid(_head(weights[0], request.head), model.config, patches))
        return Maps(grid, _logits(model, logits), {POOL: grid}, facts=facts)
    found: list[Tensor] = []
    x = run_blocks(
        model,
        model.embed(images),
        [int(layer)],
        lambda index, attention: found.append(_head(attention[0], request.head)),
    )
    matrix = found[0]  # (N, N)
    row = reading_row(model, images)[0] @ matrix
    grid = array(patch_grid(row, model.config, patches))
    own = array(patch_matrix(matrix, model.config))
    return Maps(grid, _logits(model, logits_of(model, x)), {layer: grid}, own, facts=facts)


def _head(attention: Tensor, head: int | None) -> Tensor:
    """(heads, ...) to one head or the mean, without a view of the rest."""
    return attention.mean(dim=0) if head is None else attention[head].clone()


def _logits(model: ViT, logits: Tensor) -> Array:
    """(K,), empty where the model has no head."""
    return array(logits[0, : model.config.num_classes])


def rollout_step(rolled: Tensor, attention: Tensor) -> Tensor:
    """One more layer. rolled: (N, N) so far; attention: (heads, N, N). Returns (N, N)."""
    mixed = attention.mean(dim=0)
    mixed = mixed + torch.eye(len(mixed), dtype=mixed.dtype, device=mixed.device)
    result: Tensor = (mixed / mixed.sum(dim=-1, keepdim=True)) @ rolled
    return result


def rollout(model: ViT, images: Tensor, request: Request) -> Maps:
    """images: (1, C, H, W). `layers`: the rollout up to and with that layer."""
    config = model.config
    row = reading_row(model, images)[0]  # (N,)
    patches = grid_of(config, images)
    rolled = torch.eye(num_tokens(config, images), dtype=row.dtype, device=row.device)
    layers: dict[Layer, Array] = {}

    def step(index: int, attention: Tensor) -> None:
        nonlocal rolled
        rolled = rollout_step(rolled, attention[0])
        layers[index] = array(patch_grid(row @ rolled, config, patches))

    x = run_blocks(model, model.embed(images), range(config.depth), step)
    own = array(patch_matrix(rolled, config))
    logits = _logits(model, logits_of(model, x))
    return Maps(layers[config.depth - 1], logits, layers, own, facts={"head": "mean"})

"""Which tokens the output of a ViT is read from: the row that stands for "the image as a whole".

The paper's models read the cls token, so its row of an attention matrix says where the model looks.
Other models read other tokens. The row used here, weights over the N tokens that sum to 1:

- pool "cls": the cls token. With a distillation token: half cls, half dist, as the logits are the
  mean of two heads.
- pool "gap": every patch token, 1 / P each, as in the mean that the head gets.
- pool "cls_gap": half cls, half the mean of the patch tokens: the head gets both side by side.
- pool "map": the attention of the probe over the tokens, mean of its heads. There is no residual
  around it, so nothing is added.
- pool "seq" (CCT): the weights of the weighted mean.

Columns of prefix tokens (cls, dist, registers) are dropped before a row becomes a grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.device import sent
from vitrail.models.layers.tap import TapDict
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.model import ViT

WITH_PROBE = ("map", "seq")  # pools with attention of their own


def fixed_row(config: ViTConfig, num_tokens: int | None = None) -> Tensor | None:
    """Weights (N,) of the tokens that the output is read from, where these do not depend on the
    image's pixels. num_tokens: N, of a model of variable resolution."""
    row = torch.zeros(num_tokens or config.num_tokens, dtype=torch.float64)
    if config.pool in WITH_PROBE:
        return None
    if config.distillation_token:
        row[:2] = 0.5
    elif config.pool == "cls":
        row[0] = 1
    else:
        row[config.num_prefix :] = 1 / (len(row) - config.num_prefix)
        if config.pool == "cls_gap":
            row /= 2
            row[0] = 0.5
    return row


def reading_row(model: ViT, images: Tensor) -> Tensor:
    """Weights (B, N) of the tokens that the output is read from. images: (B, C, H, W)."""
    row = fixed_row(model.config, num_tokens(model.config, images))
    if row is not None:
        like = next(model.parameters())
        return sent(row.to(like.dtype), like.device).expand(len(images), -1)
    return pool_attention(model, images)[0].mean(dim=1)  # of the heads


def pool_attention(model: ViT, images: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of the pooling probe over the tokens, (B, heads, N), and what the model gives, (B,
    K); pool "map" and "seq" only.
    """
    store: TapDict = {"pool/attention": None}
    logits = model(images, tap=store)
    weights = store["pool/attention"]
    assert weights is not None
    return weights[:, :, 0], logits


def grid_of(config: ViTConfig, images: Tensor) -> tuple[int, int]:
    """Patches per column and row (h, w) of images (B, C, H, W)."""
    return config.grid_of(images.shape[2], images.shape[3])


def num_tokens(config: ViTConfig, images: Tensor) -> int:
    """Length of the sequence that images (B, C, H, W) become, prefix and all."""
    h, w = grid_of(config, images)
    return config.num_prefix + h * w


def patch_grid(row: Tensor, config: ViTConfig, grid: tuple[int, int]) -> Tensor:
    """row: (..., N) over all tokens; grid: of the patches. Returns (..., h, w): prefix tokens
    dropped.
    """
    h, w = grid
    return row[..., config.num_prefix :].reshape(*row.shape[:-1], h, w)


def patch_matrix(matrix: Tensor, config: ViTConfig) -> Tensor:
    """matrix: (N, N). Returns (P, P): what each patch token takes from each patch token."""
    return matrix[config.num_prefix :, config.num_prefix :]

"""A competent Vision Transformer in plain PyTorch, as a careful person writes it in an afternoon.

Pre-norm blocks, one matrix for q, k and v, fused attention, patches by convolution, torch's own
initial values: the opponent of the speed benchmarks, and of nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig


def vit_named(name: str, **choices: Any) -> ViTConfig:
    """The architecture of a named ViT; choices as for `resolve_model`."""
    config = resolve_model(name, **choices)
    assert isinstance(config, ViTConfig), name
    return config


class Block(nn.Module):
    """x + MSA(LN(x)), then x + MLP(LN(x))."""

    def __init__(self, width: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, D). Returns (B, N, D)."""
        B, N, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, head_dim)
        x = x + self.proj(mixed.transpose(1, 2).reshape(B, N, D))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class TextbookViT(nn.Module):
    """Images to logits, with a cls token and learned positions."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        self.patch = nn.Conv2d(config.channels, width, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.posemb = nn.Parameter(torch.randn(1, config.num_tokens, width) * 0.02)
        self.blocks = nn.Sequential(
            *(Block(width, config.num_heads, config.mlp_dim) for _ in range(config.depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W). Returns (B, K)."""
        patches = self.patch(images).flatten(2).transpose(1, 2)  # (B, P, D)
        x = torch.cat([self.cls.expand(len(images), -1, -1), patches], dim=1) + self.posemb
        logits: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits

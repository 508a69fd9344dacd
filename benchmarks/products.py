"""The matrix products of a Vision Transformer and nothing else: the floor under its time.

The dense layers' products and those of attention, forward and, for training, the two gradients of
each (the patches need none). Two kernels: "torch" is torch.mm and torch.bmm; "fastest" takes for
the dense layers the fastest kernel we know on this machine (vitrail.models.products) and keeps
torch.bmm for attention, where nothing faster is at hand. Inputs are made once and stay: a floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.models import products
from vitrail.models.configs import ViTConfig

Multiply = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Dense:
    """x (rows, inputs) times weight^T (inputs, outputs), `count` times a step."""

    rows: int
    inputs: int
    outputs: int
    count: int
    needs_dx: bool = True


def dense_products(config: ViTConfig, batch_size: int) -> list[Dense]:
    """Those of one forward pass of a model with cls token and GELU."""
    rows, width = batch_size * config.num_tokens, config.width
    pixels = config.channels * config.patch_size[0] * config.patch_size[1]
    shapes = [(width, 3 * width), (width, width), (width, config.mlp_dim), (config.mlp_dim, width)]
    return [
        Dense(batch_size * config.num_patches, pixels, width, 1, needs_dx=False),
        *(Dense(rows, inputs, outputs, config.depth) for inputs, outputs in shapes),
        Dense(batch_size, width, config.num_classes, 1),
    ]


def all_products(
    config: ViTConfig, batch_size: int, *, kernel: str, is_train: bool
) -> Callable[[], None]:
    """A function that does them all once. kernel: "torch" or "fastest"."""
    work = [
        (one, torch.randn(one.rows, one.inputs), torch.randn(one.outputs, one.inputs),
         torch.randn(one.rows, one.outputs))
        for one in dense_products(config, batch_size)
    ]  # fmt: skip
    pairs = (batch_size * config.num_heads, config.num_tokens)
    q, k, v = torch.randn(3, *pairs, config.head_dim)  # each (B*heads, N, head_dim)
    weights = torch.randn(*pairs, config.num_tokens)  # (B*heads, N, N)
    forward: Multiply = products.linear if kernel == "fastest" else _linear
    weight_gradient: Multiply = (
        products._weight_gradient if kernel == "fastest" else lambda dy, x: torch.mm(dy.t(), x)
    )

    @torch.inference_mode()
    def run() -> None:
        for one, x, weight, dy in work:
            for _ in range(one.count):
                forward(x, weight)
                if is_train:
                    weight_gradient(dy, x)
                if is_train and one.needs_dx:
                    forward(dy, weight.t())
        for _ in range(config.depth):
            torch.bmm(q, k.transpose(1, 2))
            torch.bmm(weights, v)
            if is_train:
                torch.bmm(weights.transpose(1, 2), q)  # dv
                torch.bmm(q, v.transpose(1, 2))  # d weights
                torch.bmm(weights, k)  # dq
                torch.bmm(weights.transpose(1, 2), q)  # dk

    return run


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(x, weight.t())

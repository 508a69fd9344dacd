"""The matrix products of a Vision Transformer and nothing else: the floor under its time.

The dense layers' products and those of attention, forward and, for training, the two gradients of
each (the patches need none). Two kernels: "torch" is torch.mm and torch.bmm; "fastest" takes for
the dense layers the fastest kernel we know on this machine (vitrail.models.layers.matmul) and keeps
torch.bmm for attention, where nothing faster is at hand. Inputs are made once and stay: a floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.models.layers import matmul
from vitrail.models.vit.config import ViTConfig

Multiply = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Dense:
    """x (rows, inputs) times weight^T (inputs, outputs), `count` times a step."""

    rows: int
    inputs: int
    outputs: int
    count: int
    needs_dx: bool = True


def dense_products(config: ViTConfig, batch_size: int, *, is_short: bool) -> list[Dense]:
    """Those of one forward pass of a model with cls token and GELU. is_short: of the last block
    only what reaches the cls token, as vitrail's model computes it; else all tokens.
    """
    rows, width, mlp_dim = batch_size * config.num_tokens, config.width, config.mlp_dim
    pixels = config.channels * config.patch_size[0] * config.patch_size[1]
    after = [(width, width), (width, mlp_dim), (mlp_dim, width)]  # proj, fc1, fc2
    last = [Dense(rows, width, 2 * width, 1), Dense(batch_size, width, width, 1)]  # k v, q
    last += [Dense(batch_size, inputs, outputs, 1) for inputs, outputs in after]
    depth = config.depth - is_short
    return [
        Dense(batch_size * config.num_patches, pixels, width, 1, needs_dx=False),
        *(Dense(rows, inputs, outputs, depth) for inputs, outputs in [(width, 3 * width), *after]),
        *(last if is_short else []),
        Dense(batch_size, width, config.num_classes, 1),
    ]


def all_products(
    config: ViTConfig, batch_size: int, *, kernel: str, is_short: bool, is_train: bool
) -> Callable[[], None]:
    """A function that does them all once. kernel: "torch" or "fastest"; is_short: see above."""
    work = [
        (
            one,
            torch.randn(one.rows, one.inputs),
            torch.randn(one.outputs, one.inputs),
            torch.randn(one.rows, one.outputs),
        )
        for one in dense_products(config, batch_size, is_short=is_short)
    ]
    forward: Multiply = matmul.linear if kernel == "fastest" else _linear
    weight_gradient: Multiply = (
        matmul._weight_gradient if kernel == "fastest" else lambda dy, x: torch.mm(dy.t(), x)
    )
    attend = _attention(config, batch_size, config.num_tokens, is_train)
    attend_last = _attention(config, batch_size, 1 if is_short else config.num_tokens, is_train)

    @torch.inference_mode()
    def run() -> None:
        for one, x, weight, dy in work:
            for _ in range(one.count):
                forward(x, weight)
                if is_train:
                    weight_gradient(dy, x)
                if is_train and one.needs_dx:
                    forward(dy, weight.t())
        for _ in range(config.depth - 1):
            attend()
        attend_last()

    return run


def _attention(
    config: ViTConfig, batch_size: int, num_queries: int, is_train: bool
) -> Callable[[], None]:
    """The products of one block's attention: two forward, four backward."""
    pairs, head_dim = batch_size * config.num_heads, config.head_dim
    q = torch.randn(pairs, num_queries, head_dim)
    k, v = torch.randn(2, pairs, config.num_tokens, head_dim)
    weights = torch.randn(pairs, num_queries, config.num_tokens)

    def run() -> None:
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

"""Position: tables that are added, the relative index, and rotation.

Learned tables are parameters of the model or of its blocks. Fixed tables are computed in float64 by
NumPy, which is independent of torch's default device and dtype, and stored in float32 outside the
state dict.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.models.vit.config import ViTConfig


def learned_tables(config: ViTConfig) -> dict[str, nn.Parameter]:
    """Zeros for the learned tables that are added at one place, by name; often none."""
    (h, w), width = config.grid, config.width
    shapes: dict[str, tuple[int, ...]] = {}
    if config.is_learned:
        shapes = {"pos_embed": (1, config.posemb_rows, width)}
    elif config.posemb == "learned_2d":
        shapes = {"pos_embed_x": (1, w, width // 2), "pos_embed_y": (1, h, width // 2)}
    return {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}


def added(config: ViTConfig, owner: nn.Module) -> tuple[Tensor, Tensor]:
    """What the tables of `owner` add, for a posemb of `configs.ADDED`.

    Returns the rows of cls and dist, (1, rows, D), rows 0 without `posemb_prefix`, and those of the
    patches, (1, P, D).
    """
    if config.is_learned:
        table = owner.get_parameter("pos_embed")
        num_rows = config.posemb_prefix_rows
        return table[:, :num_rows], table[:, num_rows:]
    if config.posemb == "sincos_2d":
        patches = owner.get_buffer("pos_embed_fixed")
    else:
        h, w = config.grid
        x = owner.get_parameter("pos_embed_x").unsqueeze(1).expand(-1, h, -1, -1)
        y = owner.get_parameter("pos_embed_y").unsqueeze(2).expand(-1, -1, w, -1)
        patches = torch.cat([x, y], dim=-1).flatten(1, 2)
    return patches[:, :0], patches


def added_to_all(config: ViTConfig, owner: nn.Module) -> Tensor:
    """The same for the whole sequence, (1, N, D): zeros for tokens that have no row."""
    rows, patches = added(config, owner)
    zeros = patches.new_zeros(1, config.num_prefix - rows.shape[1], config.width)
    return torch.cat([rows, zeros, patches], dim=1)


def sincos_2d(grid: tuple[int, int], width: int) -> NDArray[np.float64]:
    """Fixed position embedding of big_vision `posemb_sincos_2d`. Returns (h*w, D), columns [sin x,
    cos x, sin y, cos y].

    omega_k = 10000^(-k / (D/4 - 1)) for k = 0 .. D/4-1. MoCo-v3 divides by D/4 and MAE orders
    differently: those tables are not interchangeable with this one.
    """
    y, x = np.mgrid[: grid[0], : grid[1]]
    omega = 10_000.0 ** (-np.arange(width // 4) / (width // 4 - 1))
    angles = [axis.reshape(-1, 1) * omega for axis in (x, y)]  # 2 x (h*w, D/4)
    return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1)


def rope_2d(config: ViTConfig) -> NDArray[np.float64]:
    """Cosines and sines of axial rotary embedding. Returns (2, h*w, head_dim).

    A channel's angle is its axis' place of the patch / rope_base^(k / (head_dim/4)), k = 0 ..
    head_dim/4-1. Columns [y angles, x angles] twice, to go with `rotate`. EVA02, rope-vit and the
    Perception Encoder pair neighbouring channels; their weights are sorted when they are read.
    """
    quarter = config.head_dim // 4
    y, x = np.meshgrid(*rope_places(config), indexing="ij")
    periods = config.rope_base ** (np.arange(quarter) / quarter)
    angles = np.concatenate(
        [axis.reshape(-1, 1) / periods for axis in (y, x)], axis=1
    )  # (h*w, head_dim/2)
    angles = np.tile(angles, 2)  # (h*w, head_dim)
    return np.stack([np.cos(angles), np.sin(angles)])


def rope_places(config: ViTConfig) -> list[NDArray[np.float64]]:
    """Where the rows (h,) and the columns (w,) of patches are, in radians at period 1.

    Centred: patch centres from -pi * 2 to pi * 2, which do not depend on the grid's size
    (DINOv3). Index: 0, 1, 2 ..., or what a grid of another size would give them (EVA02).
    """
    if config.rope == "centred":
        return [2 * math.pi * (2 * (np.arange(size) + 0.5) / size - 1) for size in config.grid]
    stretched = config.rope_grid or config.grid
    return [
        (np.arange(size, dtype=np.float64) + config.rope_start) * (other / size)
        for size, other in zip(config.grid, stretched, strict=True)
    ]


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotates the patch tokens of x: (B, N, heads, head_dim) by rope: (2, P, head_dim); the N-P
    prefix tokens stay.

    Computed in the table's dtype (float32), where half precision would lose the small angles.
    """
    num_prefix = x.shape[1] - rope.shape[1]
    prefix, patches = x[:, :num_prefix], x[:, num_prefix:]
    cos, sin = rope.unsqueeze(2)  # each (P, 1, head_dim)
    first, second = patches.chunk(2, dim=-1)
    turned = patches * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([prefix, turned.to(x.dtype)], dim=1)  # (B, N, heads, head_dim)


def relative_index(grid: tuple[int, int], num_prefix: int) -> NDArray[np.int64]:
    """Row of the relative table for every (query, key) pair. Returns (N, N).

    Rows 0 .. (2h-1)(2w-1)-1 are the offsets (y, x) between two patches. With prefix tokens three
    more rows follow, shared by all of them (as in BEiT): prefix to patch, patch to prefix, prefix
    to prefix.
    """
    y, x = (axis.reshape(-1) for axis in np.mgrid[: grid[0], : grid[1]])
    dy = y[:, None] - y[None, :] + grid[0] - 1  # (P, P)
    dx = x[:, None] - x[None, :] + grid[1] - 1
    num_offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    index = np.full((num_prefix + y.size, num_prefix + y.size), num_offsets + 2, dtype=np.int64)
    index[:num_prefix, num_prefix:] = num_offsets
    index[num_prefix:, :num_prefix] = num_offsets + 1
    index[num_prefix:, num_prefix:] = dy * (2 * grid[1] - 1) + dx
    return index


def num_relative_rows(grid: tuple[int, int], num_prefix: int) -> int:
    """Rows of the relative table."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + (3 if num_prefix else 0)


class RelativeBias(nn.Module):
    """Relative position as an extra attention (arXiv 2010.11929 appendix D.4, Table 8).

    Each (query, key) offset has an embedding, which acts as the key of a second attention with the
    same queries; its logits are added to those of the main attention. One table per layer, shared
    by the heads.
    """

    index: Tensor

    def __init__(self, grid: tuple[int, int], num_prefix: int, head_dim: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(num_relative_rows(grid, num_prefix), head_dim))
        self.register_buffer(
            "index", torch.from_numpy(relative_index(grid, num_prefix)), persistent=False
        )

    def forward(self, query: Tensor) -> Tensor:
        """query: (B, heads, n, head_dim), the first n of N tokens. Returns (B, heads, n, N), scaled
        as the main logits."""
        keys = self.keys[self.index[: query.shape[2]]]  # (n, N, head_dim)
        return torch.einsum("bhqd,qkd->bhqk", query * query.shape[-1] ** -0.5, keys)

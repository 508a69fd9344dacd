"""One model for patches of several sizes (FlexiViT, arXiv 2212.08013).

A patch kernel and a position table of one size each are kept. For patches of another size the
kernel is resized by the pseudo-inverse of bilinear resizing (section 3.4), and the table
bilinearly, antialiased, as big_vision's `proj/flexi/vit.py` does. Training draws a size for each
step; a model that is fixed at one size is an ordinary ViT (`checkpoints/adapt/fixed_patch.py`).

Matrices are computed in float64 and kept in float32. They are applied as matrix products, outside
autocast: in the precision of the weights, and with gradients that are the same at every run.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.keyed_random import uniforms
from vitrail.models.layers.axis_matrix import Floats, Kernel, axis_matrix, half_pixel_places
from vitrail.models.vit.config import ViTConfig

Size = tuple[int, int]
MatrixOf = Callable[[int, int], Floats]


def inverse_matrix(
    old: int, new: int, kernel: Kernel = "linear", *, antialias: bool = False
) -> Floats:
    """pinv(B^T), (new, old), where B resizes a row of `old` pixels to `new`."""
    places = half_pixel_places(old, new)
    matrix = axis_matrix(places, old, kernel, antialias=antialias, scale=old / new)
    return np.asarray(np.linalg.pinv(matrix.T))


def table_matrix(old: int, new: int) -> Floats:
    """(new, old): how one axis of a position table is resized."""
    return axis_matrix(half_pixel_places(old, new), old, "linear", antialias=True, scale=old / new)


def drawn_patch(config: ViTConfig, seed: int, step: int) -> Size:
    """The patch, (height, width) px, of training step `step` (from 1), each of `patch_sizes` with
    equal probability; a function of its arguments. That of the model where it has one.
    """
    if not config.patch_sizes:
        return config.patch_size
    share = uniforms(seed, "patch size", 0, np.array([step]), 1)[0, 0]
    return config.patch_sizes[int(share * len(config.patch_sizes))]


class Resizes(nn.Module):
    """The matrices that bring kernel and table of a model to each of its patch sizes."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.kept_kernel, self.kept_grid = config.kept_kernel, config.kept_grid
        for size in config.patch_sizes:
            self._hold("kernel", self.kept_kernel, size, inverse_matrix)
        for grid in map(config.grid_at, config.patch_sizes):
            self._hold("table", self.kept_grid, grid, table_matrix)

    def kernel(self, kernel: Tensor, size: Size) -> Tensor:
        """kernel: (D, C, kh, kw). Returns (D, C, *size)."""
        return kernel if size == self.kept_kernel else self._applied("kernel", kernel, size)

    def table(self, table: Tensor, grid: Size) -> Tensor:
        """table: (1, P, D) of the grid that is kept. Returns (1, h*w, D) of a grid (h, w)."""
        if grid == self.kept_grid:
            return table
        maps = table[0].t().reshape(-1, *self.kept_grid)  # (D, h, w)
        return self._applied("table", maps, grid).flatten(1).t().unsqueeze(0)

    def _hold(self, kind: str, old: Size, new: Size, matrix_of: MatrixOf) -> None:
        for axis in (0, 1):
            matrix = torch.from_numpy(matrix_of(old[axis], new[axis])).float()
            self.register_buffer(_name(kind, new, axis), matrix, persistent=False)

    def _applied(self, kind: str, values: Tensor, new: Size) -> Tensor:
        """values: (..., h, w). Returns (..., *new)."""
        rows, columns = (self.get_buffer(_name(kind, new, axis)) for axis in (0, 1))
        with torch.autocast(values.device.type, enabled=False):
            return rows.to(values.dtype) @ values @ columns.to(values.dtype).t()


def _name(kind: str, size: Size, axis: int) -> str:
    return f"{kind}_{size[0]}x{size[1]}_{axis}"

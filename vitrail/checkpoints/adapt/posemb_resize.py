"""Position embeddings for another grid of patches, by the rule of the checkpoint's own family.

Fine-tuning at a higher resolution keeps the patch size and resamples the learned table in two
dimensions (arXiv 2010.11929 section 3.2). Libraries do it differently (spec 3.10), and the weights
of each were measured with its own way; so the rule belongs to the checkpoint. Rows of prefix tokens
(cls, dist) are copied. Everything is computed in float64; results are float32. At equal grids the
table is returned as it is, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import ModelError, nearest
from vitrail.models.layers.axis_matrix import (
    Floats,
    Kernel,
    aligned_places,
    axis_matrix,
    half_pixel_places,
)
from vitrail.models.vit.posemb import num_relative_rows

Grid = tuple[int, int]


class GridRule(NamedTuple):
    """How a family resamples. text: for the sentence that tells the user."""

    kernel: Kernel
    text: str
    is_antialiased: bool = False
    is_aligned: bool = False  # corners on corners; else images on images
    offset: float = 0.0


# vision_transformer and big_vision call scipy.ndimage.zoom(order=1); timm `resample_abs_pos_embed`
# and, of .npz files, `_load_weights`; deit `main.py`; torchvision `interpolate_embeddings`; dino
# and dinov2 `interpolate_pos_encoding`, whose register models do without the offset; transformers
# `interpolate_pos_encoding`; flexi: big_vision `proj/flexi/vit.py`, jax.image.resize.
RULES: dict[str, GridRule] = {
    "google": GridRule("linear", "bilinear, corners aligned", is_aligned=True),
    "timm": GridRule("cubic", "bicubic, antialiased", is_antialiased=True),
    "timm_npz": GridRule("linear", "bilinear"),
    "deit": GridRule("cubic", "bicubic"),
    "torchvision": GridRule("cubic", "bicubic, corners aligned", is_aligned=True),
    "dino": GridRule("cubic", "bicubic, offset 0.1", offset=0.1),
    "dino_registers": GridRule("cubic", "bicubic, antialiased", is_antialiased=True),
    "flexi": GridRule("linear", "bilinear, antialiased", is_antialiased=True),
    "huggingface": GridRule("cubic", "bicubic"),
}


def check_rule(name: str) -> GridRule:
    """The rule `name`. Raises ModelError VIT-450."""
    if name not in RULES:
        raise ModelError(
            "VIT-450", f"unknown rule {name!r} for position embeddings. {nearest(name, RULES)}"
        )
    return RULES[name]


def resize_posemb(
    table: Tensor, old_grid: Grid, new_grid: Grid, num_prefix: int, rule: str
) -> Tensor:
    """table: (1, num_prefix + h*w, D) of a grid (h, w). Returns float32 of the new grid.

    Raises ModelError: VIT-450 unknown rule, VIT-453 where the table has another number of rows.
    """
    chosen = check_rule(rule)
    h, w = old_grid
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[1] != num_prefix + h * w:
        raise _wrong_rows("pos_embed", table, (1, num_prefix + h * w, "D"), old_grid, num_prefix)
    if old_grid == new_grid:
        return table.clone()
    rows, columns = (_matrix(old, new, chosen) for old, new in zip(old_grid, new_grid, strict=True))
    patches = table[0, num_prefix:].double().numpy().reshape(h, w, -1)  # (h, w, D)
    patches = np.einsum("yh,xw,hwd->yxd", rows, columns, patches, optimize=True)
    resized = torch.from_numpy(patches.reshape(1, -1, table.shape[2])).float()
    return torch.cat([table[:, :num_prefix].float(), resized], dim=1)


def resize_axis(table: Tensor, new: int, rule: str) -> Tensor:
    """One of the two tables of a factorised embedding (`learned_2d`). table: (1, n, D/2)."""
    old, chosen = table.shape[1], check_rule(rule)
    if old == new:
        return table.clone()
    values = _matrix(old, new, chosen) @ table[0].double().numpy()  # (new, D/2)
    return torch.from_numpy(values).float().unsqueeze(0)


def resize_relative(
    table: Tensor, old_grid: Grid, new_grid: Grid, num_prefix: int, rule: str
) -> Tensor:
    """A table of relative offsets (`models/vit/posemb.py:relative_index`) for another grid.

    table: ((2h-1)(2w-1) [+ 3 rows of prefix tokens, copied], head_dim). An offset keeps its length
    as a part of the image: the new offset d is the old offset d * old / new, so that offset 0
    stays offset 0. Offsets beyond the old table's take its border. Raises ModelError VIT-450, 453.
    """
    chosen = check_rule(rule)
    if table.ndim != 2 or table.shape[0] != num_relative_rows(old_grid, num_prefix):
        expected = (num_relative_rows(old_grid, num_prefix), "head_dim")
        raise _wrong_rows("the relative table", table, expected, old_grid, num_prefix)
    if old_grid == new_grid:
        return table.clone()
    shape = tuple(2 * side - 1 for side in old_grid)
    offsets = table[: shape[0] * shape[1]].double().numpy().reshape(*shape, -1)
    rows, columns = (
        _offset_matrix(old, new, chosen) for old, new in zip(old_grid, new_grid, strict=True)
    )
    offsets = np.einsum("yh,xw,hwd->yxd", rows, columns, offsets, optimize=True)
    resized = torch.from_numpy(offsets.reshape(-1, table.shape[1])).float()
    return torch.cat([resized, table[shape[0] * shape[1] :].float()])


def _matrix(old: int, new: int, rule: GridRule) -> Floats:
    if rule.is_aligned:
        places = aligned_places(old, new)
    else:
        places = half_pixel_places(old, new, rule.offset)
    return axis_matrix(
        places, old, rule.kernel, antialias=rule.is_antialiased, scale=old / (new + rule.offset)
    )


def _offset_matrix(old: int, new: int, rule: GridRule) -> Floats:
    """(2 new - 1, 2 old - 1)."""
    if rule.is_aligned:
        scale = (old - 1) / (new - 1) if new > 1 else 0.0
    else:
        scale = old / (new + rule.offset)
    places = np.clip(np.arange(1 - new, new) * scale + old - 1, 0, 2 * old - 2)
    return axis_matrix(places, 2 * old - 1, rule.kernel, antialias=rule.is_antialiased, scale=scale)


def _wrong_rows(
    name: str, table: Tensor, expected: tuple[int | str, ...], grid: Grid, num_prefix: int
) -> ModelError:
    shape = f"({', '.join(map(str, expected))})"
    return ModelError(
        "VIT-453",
        f"{name}: expected shape {shape} of a grid {grid[0]}x{grid[1]} with {num_prefix} prefix "
        f"tokens, got {tuple(table.shape)}.",
        hint="Check image_size and patch_size of the configuration: they belong to the file.",
    )

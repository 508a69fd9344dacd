"""Images of variable resolution: a batch of packed patches, its mask, positions of every grid.

Source: NaFlex (arXiv 2502.14786, section 2.4.2) and NaViT (arXiv 2307.06304). A packed batch is
(B, L, 2 + C*ph*pw), of each patch its row, its column and its values; behind the last patch of an
image stand rows of -1, whose values mean nothing (`data/images/packing.py`). Nobody attends to
them, and no mean counts them, so that an image's answer does not depend on what it shares a batch
with. Two sequences of one image in one row (NaViT's packing) are not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.data.images.packing import EMPTY, PLACE
from vitrail.errors import UsageError
from vitrail.models.vit.config import ViTConfig

Grid = tuple[int, int]


class Patches(NamedTuple):
    """values: (B, N, C*ph*pw), 0 where there is no patch; grids: (rows, columns) of each image;
    key_bias: (B, 1, 1, N), 0 for a patch and -inf where there is none, None where all are patches.
    """

    values: Tensor
    grids: list[Grid]
    key_bias: Tensor | None


def read_packed(batch: Tensor, config: ViTConfig) -> Patches:
    """batch: (B, L, 2 + C*ph*pw). N is the most patches that an image of it has.

    Raises UsageError VIT-224 for another shape, or rows without a patch.
    """
    ph, pw = config.patch_size
    columns = PLACE + config.channels * ph * pw
    if batch.ndim != 3 or batch.shape[2] != columns:
        raise _wrong_shape(batch, config)
    is_patch = batch[:, :, 0] > EMPTY  # (B, L)
    counts = is_patch.sum(dim=1).tolist()
    if not counts or min(counts) < 1:
        raise _wrong_shape(batch, config)
    N = max(counts)
    is_patch, places, values = is_patch[:, :N], batch[:, :N, :PLACE], batch[:, :N, PLACE:]
    grids = [(int(row) + 1, int(column) + 1) for row, column in places.amax(dim=1).tolist()]
    if min(counts) == N:
        return Patches(values.contiguous(), grids, None)
    values = torch.where(is_patch[:, :, None], values, 0.0)
    bias = torch.zeros_like(is_patch, dtype=torch.float32).masked_fill_(~is_patch, -torch.inf)
    return Patches(values, grids, bias[:, None, None])


def check_variable_images(images: Tensor, config: ViTConfig) -> None:
    """Raises UsageError VIT-224 unless images are (B, C, H, W) of whole patches, no more than
    `max_patches`.
    """
    (ph, pw), most = config.patch_size, config.max_patches or 0
    if images.ndim == 4 and images.shape[1] == config.channels:
        H, W = images.shape[2:]
        if H % ph == 0 == W % pw and 0 < (H // ph) * (W // pw) <= most:
            return
    raise _wrong_shape(images, config)


def _wrong_shape(images: Tensor, config: ViTConfig) -> UsageError:
    ph, pw = config.patch_size
    return UsageError(
        "VIT-224",
        f"images have shape {tuple(images.shape)}; this model takes (B, {config.channels}, H, W) "
        f"in whole patches of {ph}x{pw} px, {config.max_patches} at most, or a packed batch (B, L, "
        f"{PLACE + config.channels * ph * pw}).",
        hint="Let the model's own preprocessing resize and pack the images.",
    )


def positions(table: Tensor, config: ViTConfig, grids: Sequence[Grid], length: int) -> Tensor:
    """What is added to the patches of images with these grids, (len(grids), length, D), 0 where
    there is no patch. table: (1, P, D) of `config.grid`.
    """
    made = {grid: resized_table(table, config, grid)[0] for grid in set(grids)}
    return torch.stack([F.pad(made[grid], (0, 0, 0, length - len(made[grid]))) for grid in grids])


def resized_table(table: Tensor, config: ViTConfig, grid: Grid) -> Tensor:
    """(1, h*w, D) of a grid (h, w). table: (1, P, D) of `config.grid`, whose own is returned as it
    is. Antialiased, image on image; computed in float32 at least.
    """
    if grid == config.grid:
        return table
    rows = table.to(torch.promote_types(table.dtype, torch.float32))
    maps = rows.transpose(1, 2).reshape(1, config.width, *config.grid)  # (1, D, h, w)
    maps = F.interpolate(maps, grid, mode=config.posemb_resize, align_corners=False, antialias=True)
    return maps.flatten(2).transpose(1, 2).to(table.dtype)


def mean_of_patches(patches: Tensor, key_bias: Tensor | None) -> Tensor:
    """(B, D) of patches (B, N, D), each counted exp(key_bias) times: not at all where there is no
    patch, and a merged token as often as it stands for one. key_bias: (B, 1, 1, N).
    """
    if key_bias is None:
        return patches.mean(dim=1)
    counts = key_bias[:, 0, 0].exp().unsqueeze(2)  # (B, N, 1)
    return (patches * counts).sum(dim=1).to(patches.dtype) / counts.sum(dim=1).to(patches.dtype)

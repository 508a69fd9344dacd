"""Augmentation of a whole batch on its device: the path of small pictures held in memory.

The same crops, operations and parameters as `augment` draws for one picture (one slot table,
`slots`), done at once: flip and integer crops are exact moves of pixels; a resized crop is two
matrix products (`batch_resample`); all geometric operations of a picture are one affine sampling,
bilinear as in Pillow's Image.transform; colours run over the group of pictures that drew the same
operation at the same place. Works for 1 and 3 channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vitrail.config import AugmentConfig
from vitrail.data.augment import NOISE_BYTES, noise, noise_offset
from vitrail.data.batch_colors import COLOR_OPS, gray
from vitrail.data.batch_resample import resize_boxes
from vitrail.data.crops import (
    Size,
    erase_boxes,
    flips,
    inception_boxes,
    mirrored,
    window_frame,
    window_offsets,
)
from vitrail.data.policies import OPS, Plan, affine_maps, draw_plan, fill_value
from vitrail.data.slots import Uniforms

_ROUNDING = (
    1 / 512
)  # float32 sampling of a flat area must not fall below its value before it is cut


def augment_batch(
    images: Tensor,
    u: Uniforms,
    config: AugmentConfig,
    size: Size,
    *,
    interpolation: str = "bicubic",
    keep_aspect: bool = False,
) -> Tensor:
    """Training views uint8 (B, C, h, w) of `images` uint8 (B, C, H, W), drawn with uniforms `u` (B,
    NUM_SLOTS).
    """
    images = _place(images, u, config, size, interpolation, keep_aspect)
    if config.policy != "none" or config.color_jitter > 0:
        images = apply_plan(images, draw_plan(u, config))
    return _erase(images, u, config) if config.erasing > 0 else images


def to_channels(images: Tensor, channels: int) -> Tensor:
    """`images` uint8 (B, C, H, W) with 1 (luma) or 3 (equal) channels."""
    if images.shape[1] == channels:
        return images
    if channels == 1:
        return gray(images).to(torch.uint8)
    return images.expand(-1, channels, -1, -1)


def apply_plan(images: Tensor, plan: Plan) -> Tensor:
    """`images` uint8 (B, C, h, w) after each picture's operations; the input is not changed."""
    height, width = images.shape[2:]
    maps, moved = affine_maps(plan, (height, width))
    out = images.clone(memory_format=torch.contiguous_format)
    if moved.any():
        rows = torch.from_numpy(moved.nonzero()[0]).to(images.device)
        out[rows] = sample_affine(images[rows], maps[moved])
    for k in range(plan.ops.shape[1]):
        for op in np.unique(plan.ops[:, k]).tolist():
            if OPS[op] in COLOR_OPS:
                here = (plan.ops[:, k] == op).nonzero()[0]
                values = torch.from_numpy(plan.values[here, k]).to(images.device, torch.float32)
                rows = torch.from_numpy(here).to(images.device)
                out[rows] = COLOR_OPS[OPS[op]](out[rows], values)
    return out


def sample_affine(images: Tensor, maps: Uniforms) -> Tensor:
    """uint8 (G, C, h, w) seen through `maps` (G, 2, 3), output to input coordinates; what lies
    outside is filled.
    """
    G, C, height, width = images.shape
    scale = np.array([[2 / width], [2 / height]])
    shift = np.array([0.0, 0.0, 1.0])
    theta = torch.from_numpy(maps * scale - shift).to(images.device, torch.float32)  # to -1..1
    x = torch.arange(width, device=images.device) + 0.5  # (w,)
    y = torch.arange(height, device=images.device) + 0.5  # (h,)
    grid = (
        theta[:, None, None, :, 0] * x[None, None, :, None]
        + theta[:, None, None, :, 1] * y[None, :, None, None]
        + theta[:, None, None, :, 2]
    )  # (G, h, w, 2)
    seen = functional.grid_sample(
        images.to(torch.float32), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    inside = ((grid >= -1) & (grid < 1)).all(dim=3).unsqueeze(1)  # (G, 1, h, w)
    return torch.where(inside, seen.add_(_ROUNDING), float(fill_value(C))).to(torch.uint8)


def _place(
    images: Tensor,
    u: Uniforms,
    config: AugmentConfig,
    size: Size,
    interpolation: str,
    keep_aspect: bool,
) -> Tensor:
    """The crops, resized to `size`, mirrored where drawn."""
    have = (images.shape[2], images.shape[3])
    whole = np.tile(np.array([0, 0, *have], dtype=np.int64), (len(u), 1))
    offsets = np.zeros((len(u), 2), dtype=np.int64)
    resized = size
    if config.crop == "inception":
        images = resize_boxes(images, inception_boxes(u, have, config), size, interpolation)
    else:
        if config.crop != "none":
            resized, pad_px = window_frame(have, size, config, keep_aspect=keep_aspect)
            offsets = window_offsets(u, resized, size, pad_px)
        if resized != have:
            images = resize_boxes(images, whole, resized, interpolation)
    rows = mirrored(offsets[:, 0], size[0], resized[0])  # (B, h)
    cols = mirrored(offsets[:, 1], size[1], resized[1])  # (B, w)
    flipped = flips(u, config)
    cols[flipped] = cols[flipped, ::-1]
    return move_pixels(images, rows, cols)


def move_pixels(images: Tensor, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Tensor:
    """Pixel (y, x) of each result is pixel (rows[y], cols[x]) of its picture; rows (B, h), cols (B,
    w).
    """
    B, C, H, W = images.shape
    index = torch.from_numpy(rows[:, :, None] * W + cols[:, None, :]).to(images.device)  # (B, h, w)
    flat = index.view(B, 1, -1).expand(-1, C, -1)
    return images.reshape(B, C, H * W).gather(2, flat).view(B, C, rows.shape[1], cols.shape[1])


def _erase(images: Tensor, u: Uniforms, config: AugmentConfig) -> Tensor:
    """Each picture's drawn box shows noise; pixel order (h, w, C) as in `augment`."""
    B, C, height, width = images.shape
    boxes = torch.from_numpy(erase_boxes(u, (height, width), config)).to(images.device)
    rows = boxes[:, 2].nonzero()[:, 0]
    if len(rows) == 0:
        return images
    top, left, tall, wide = boxes[rows].view(-1, 4, 1, 1).unbind(1)  # (G, 1, 1)
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)  # (G, h, w)
    start = torch.from_numpy(noise_offset(u)).to(images.device)[rows]
    place = torch.arange(height * width * C, device=images.device).view(height, width, C)
    table = torch.from_numpy(noise().copy()).to(images.device)
    pattern = table[(start[:, None, None, None] + place) % NOISE_BYTES].permute(0, 3, 1, 2)
    out = images.clone()
    out[rows] = torch.where(inside.unsqueeze(1), pattern, images[rows])
    return out

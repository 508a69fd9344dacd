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
    """`images` uint8 (B, C, h, w) after each picture's operations; the input is not changed.

    For each place in the plan the pictures are sorted by operation, so that every operation works
    on one run of memory; at the end they return to their places.
    """
    maps, moved = affine_maps(plan, (images.shape[2], images.shape[3]))
    shifted = moved & (maps[:, :, :2] == np.eye(2)).all(axis=(1, 2))  # by whole pixels only
    standing = np.arange(len(images))  # the picture in each row of `images`
    images, standing = _sorted(images, standing, np.where(shifted, 1, np.where(moved, 0, 2)))
    num_shifted, num_sampled = int(shifted.sum()), int(moved.sum() - shifted.sum())
    if num_sampled:
        images[:num_sampled] = sample_affine(images[:num_sampled], maps[standing[:num_sampled]])
    if num_shifted:
        run = slice(num_sampled, num_sampled + num_shifted)
        images[run] = shift_pixels(images[run], maps[standing[run], :, 2].astype(np.int64))
    for k in range(plan.ops.shape[1]):
        images, standing = _sorted(images, standing, plan.ops[:, k])
        values = torch.from_numpy(plan.values[standing, k]).to(images.device, torch.float32)
        ops, starts = np.unique(plan.ops[standing, k], return_index=True)
        for op, first, last in zip(ops, starts, [*starts[1:], len(images)], strict=True):
            if OPS[op] in COLOR_OPS:
                run = slice(int(first), int(last))
                images[run] = COLOR_OPS[OPS[op]](images[run], values[run])
    return _sorted(images, standing, np.arange(len(images)))[0]


def _sorted(
    images: Tensor, standing: NDArray[np.int64], keys: NDArray[np.generic]
) -> tuple[Tensor, NDArray[np.int64]]:
    """Copies of `images` and `standing`, rows ordered by the key of the picture standing there."""
    order = np.argsort(keys[standing], kind="stable")
    rows = torch.from_numpy(order).to(images.device)
    return images.index_select(0, rows), standing[order]


def sample_affine(images: Tensor, maps: Uniforms) -> Tensor:
    """uint8 (G, C, h, w) seen through `maps` (G, 2, 3), output to input coordinates, bilinear.

    What lies outside is filled. Fractions of a level are cut, as Pillow does.
    """
    G, _, height, width = images.shape
    scale, shift = np.array([[2 / width], [2 / height]]), np.array([0.0, 0.0, 1.0])
    theta = torch.from_numpy((maps * scale - shift).reshape(-1, 3))  # (2 G, 3), to -1..1
    x = torch.arange(width, device=images.device).add(0.5).expand(height, -1)
    y = torch.arange(height, device=images.device).add(0.5)[:, None].expand(-1, width)
    places = torch.stack([x, y, torch.ones_like(x)]).view(3, -1)  # (3, h w)
    grid = (theta.to(images.device, torch.float32) @ places).view(G, 2, height, width)
    seen = functional.grid_sample(
        images.to(torch.float32),
        grid.permute(0, 2, 3, 1),  # (G, h, w, 2)
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    inside = (grid.abs_().amax(dim=1, keepdim=True) < 1).view(torch.uint8)  # (G, 1, h, w)
    return _filled(seen.add_(_ROUNDING).to(torch.uint8), inside)


def shift_pixels(images: Tensor, shifts: NDArray[np.int64]) -> Tensor:
    """uint8 (G, C, h, w): pixel (y, x) is (y + dy, x + dx) of `images`; shifts (G, 2) dx, dy."""
    height, width = images.shape[2:]
    cols = shifts[:, 0, None] + np.arange(width)  # (G, w)
    rows = shifts[:, 1, None] + np.arange(height)  # (G, h)
    seen = move_pixels(images, rows.clip(0, height - 1), cols.clip(0, width - 1))
    inside_rows, inside_cols = (
        torch.from_numpy((places >= 0) & (places < num)).to(images.device).view(torch.uint8)
        for places, num in ((rows, height), (cols, width))
    )
    return _filled(seen, inside_rows[:, None, :, None] * inside_cols[:, None, None, :])


def _filled(levels: Tensor, inside: Tensor) -> Tensor:
    """`levels` uint8 where `inside` (uint8, 0 or 1) holds, the fill elsewhere; in place."""
    fill = fill_value(levels.shape[1])
    return levels.bitwise_xor_(fill).mul_(inside).bitwise_xor_(fill)


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
    starts, steps = (torch.from_numpy(places).to(images.device) for places in (rows * W, cols))
    index = starts[:, :, None] + steps[:, None, :]  # (B, h, w)
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

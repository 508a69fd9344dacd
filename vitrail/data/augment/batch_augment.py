"""Augmentation of a whole batch on its device: the path of small images held in memory.

The same crops, operations and parameters as `augment` draws for one image (one slot table,
`slots`), done at once: flip and integer crops are exact moves of pixels; a resized crop is two
matrix products (`batch_resample`); all geometric operations of an image are one affine sampling,
bilinear as in Pillow's Image.transform; colours run over the group of images that drew the same
operation at the same place. Works for 1 and 3 channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vitrail.config import AugmentConfig
from vitrail.data.augment.batch_colors import COLOR_OPS, OF_THE_HOST, gray, to_bytes
from vitrail.data.augment.batch_resample import resize_boxes
from vitrail.data.augment.crops import (
    Size,
    erase_boxes,
    flips,
    inception_boxes,
    mirrored,
    window_frame,
    window_offsets,
)
from vitrail.data.augment.one_image import NOISE_BYTES, noise, noise_offset
from vitrail.data.augment.policies import OPS, AugmentDraws, affine_maps, draw_plan, fill_value
from vitrail.data.augment.random_slots import Uniforms
from vitrail.device import sent

Places = NDArray[np.int64]
_IS_COLOR = np.array([op in COLOR_OPS for op in OPS])
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
    images, rows, cols = _place(images, u, config, size, interpolation, keep_aspect)
    images = _apply_plan(images, draw_plan(u, config), rows, cols)
    return _erase(images, u, config) if config.erasing > 0 else images


def to_channels(images: Tensor, channels: int) -> Tensor:
    """`images` uint8 (B, C, H, W) with 1 (luma) or 3 (equal) channels."""
    if images.shape[1] == channels:
        return images
    if channels == 1:
        return gray(images).to(torch.uint8)
    return images.expand(-1, channels, -1, -1)


def apply_plan(images: Tensor, plan: AugmentDraws) -> Tensor:
    """`images` uint8 (B, C, h, w) after each image's operations; the input is not changed."""
    rows, cols = (np.tile(np.arange(side), (len(images), 1)) for side in images.shape[2:])
    return _apply_plan(images, plan, rows, cols)


def _apply_plan(images: Tensor, plan: AugmentDraws, rows: Places, cols: Places) -> Tensor:
    """The pixels `rows` (B, h) x `cols` (B, w) of `images` (B, C, H, W) after each image's
    operations.

    Shifts by whole pixels are done with the crop, in one move. For each place in the plan the
    images are sorted by operation, so that every operation works on one run of memory; at the
    end they return to their places. An image with geometry has no colour at the first place
    (`_colors_last`), so that one order serves the geometry and the first colours.
    """
    if plan.ops.shape[1] == 0:
        return move_pixels(images, rows, cols)
    ops, values = _colors_last(plan)
    maps, moved = affine_maps(plan, (rows.shape[1], cols.shape[1]))
    shifted = moved & (maps[:, :, :2] == np.eye(2)).all(axis=(1, 2))  # by whole pixels only
    kinds = np.where(moved, np.where(shifted, -1, -2), ops[:, 0])
    num_sampled, num_shifted = int((kinds == -2).sum()), int((kinds == -1).sum())
    standing = np.argsort(kinds, kind="stable")  # the image in each row of `images`
    images = images.index_select(0, _on(standing, images))
    shifts = np.where(shifted[:, None], maps[:, :, 2], 0).astype(np.int64)[standing]  # (B, 2)
    run = slice(num_sampled, num_sampled + num_shifted)
    images = shift_pixels(images, rows[standing], cols[standing], shifts, run)
    if num_sampled:
        seen = images[:num_sampled]
        seen.copy_(sample_affine(seen, maps[standing[:num_sampled]]))
    for k in range(ops.shape[1]):
        if k > 0:
            images, standing = _sorted(images, standing, ops[:, k])
        _apply_colors(images, ops[standing, k], values[standing, k])
    return _sorted(images, standing, np.arange(len(images)))[0]


def _colors_last(plan: AugmentDraws) -> tuple[Places, Uniforms]:
    """The operations and values of a plan, (B, K): an image's colours, in their order, after what
    is none, 0.
    """
    is_color = _IS_COLOR[plan.ops]
    order = np.argsort(is_color, axis=1, kind="stable")
    ops = np.take_along_axis(plan.ops * is_color, order, axis=1)
    return ops, np.take_along_axis(plan.values, order, axis=1)


def _apply_colors(images: Tensor, ops: Places, values: Uniforms) -> None:
    """One operation an image, in place; `ops` (B,) in rising order."""
    given = torch.from_numpy(values.astype(np.float32))
    arguments = sent(given, images.device)
    edges = np.searchsorted(ops, np.arange(len(OPS) + 1)).tolist()
    for op, first, last in zip(OPS, edges, edges[1:], strict=False):
        if op in COLOR_OPS and first < last:
            run = slice(first, last)
            argument = given if op in OF_THE_HOST else arguments
            images[run] = COLOR_OPS[op](images[run], argument[run])


def _on(values: NDArray[Any], images: Tensor) -> Tensor:
    return sent(torch.from_numpy(values), images.device)


def _sorted(
    images: Tensor, standing: NDArray[np.int64], keys: NDArray[np.generic]
) -> tuple[Tensor, NDArray[np.int64]]:
    """Copies of `images` and `standing`, rows ordered by the key of the image standing there."""
    order = np.argsort(keys[standing], kind="stable")
    return images.index_select(0, _on(order, images)), standing[order]


def sample_affine(images: Tensor, maps: Uniforms) -> Tensor:
    """uint8 (G, C, h, w) seen through `maps` (G, 2, 3), output to input coordinates, bilinear.

    What lies outside is filled. Fractions of a level are cut, as Pillow does.
    """
    G, _, height, width = images.shape
    scale, shift = np.array([[2 / width], [2 / height]]), np.array([0.0, 0.0, 1.0])
    theta = maps * scale - shift  # (G, 2, 3), to -1..1
    by_col = theta[:, :, :1] * (np.arange(width) + 0.5)  # (G, 2, w)
    by_row = theta[:, :, 1:2] * (np.arange(height) + 0.5) + theta[:, :, 2:]  # (G, 2, h)
    along, down = (_on(part.astype(np.float32), images) for part in (by_col, by_row))
    grid = down[:, :, :, None] + along[:, :, None, :]  # (G, 2, h, w)
    seen = functional.grid_sample(
        images.to(torch.float32),
        grid.permute(0, 2, 3, 1),  # (G, h, w, 2)
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    outermost = grid.abs_().amax(dim=1, keepdim=True)  # (G, 1, h, w)
    outside = outermost.to(torch.int16).clamp_(max=1).to(torch.uint8)  # 1.0 and on
    return _filled(to_bytes(seen.add_(_ROUNDING)), outside - 1)


def shift_pixels(images: Tensor, rows: Places, cols: Places, shifts: Places, run: slice) -> Tensor:
    """The view `rows` (B, h) x `cols` (B, w) of `images`, shifted: its pixel (y, x) is that of
    (y + dy, x + dx), what lies outside is filled; shifts (B, 2) dx, dy, 0 outside of `run`.
    """
    height, width = rows.shape[1], cols.shape[1]
    across = shifts[run, :1] + np.arange(width)  # (G, w)
    down = shifts[run, 1:] + np.arange(height)  # (G, h)
    rows[run] = np.take_along_axis(rows[run], down.clip(0, height - 1), axis=1)
    cols[run] = np.take_along_axis(cols[run], across.clip(0, width - 1), axis=1)
    seen = move_pixels(images, rows, cols)
    inside_rows, inside_cols = (
        _on(((places >= 0) & (places < num)) * np.uint8(255), images)
        for places, num in ((down, height), (across, width))
    )
    _filled(seen[run], inside_rows[:, None, :, None] & inside_cols[:, None, None, :])
    return seen


def _filled(levels: Tensor, inside: Tensor) -> Tensor:
    """`levels` uint8 where `inside` (uint8, 0 or 255) is set, the fill elsewhere; in place."""
    fill = fill_value(levels.shape[1])
    return levels.bitwise_xor_(fill).bitwise_and_(inside).bitwise_xor_(fill)


def _place(
    images: Tensor,
    u: Uniforms,
    config: AugmentConfig,
    size: Size,
    interpolation: str,
    keep_aspect: bool,
) -> tuple[Tensor, Places, Places]:
    """Images, and the rows (B, h) and columns (B, w) of them that are shown: the crops, resized
    to `size`, mirrored where drawn.
    """
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
    return images, rows, cols


def move_pixels(images: Tensor, rows: Places, cols: Places) -> Tensor:
    """Pixel (y, x) of each result is pixel (rows[y], cols[x]) of its image; rows (B, h), cols (B,
    w).
    """
    B, C, H, W = images.shape
    starts, steps = (_on(places.astype(np.int32), images) for places in (rows * W, cols))
    index = (starts[:, :, None] + steps[:, None, :]).to(torch.int64)  # (B, h, w); 32 bits add fast
    flat = index.view(B, 1, -1).expand(-1, C, -1)
    return images.reshape(B, C, H * W).gather(2, flat).view(B, C, rows.shape[1], cols.shape[1])


def _erase(images: Tensor, u: Uniforms, config: AugmentConfig) -> Tensor:
    """Each image's drawn box shows noise; pixel order (h, w, C) as in `augment`."""
    B, C, height, width = images.shape
    boxes = erase_boxes(u, (height, width), config)
    erased = np.flatnonzero(boxes[:, 2])
    if len(erased) == 0:
        return images
    rows = _on(erased, images)
    top, left, tall, wide = _on(boxes[erased], images).view(-1, 4, 1, 1).unbind(1)  # (G, 1, 1)
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)  # (G, h, w)
    start = _on(noise_offset(u)[erased], images)
    place = torch.arange(height * width * C, device=images.device).view(height, width, C)
    table = _on(noise().copy(), images)
    pattern = table[(start[:, None, None, None] + place) % NOISE_BYTES].permute(0, 3, 1, 2)
    out = images.clone()
    out[rows] = torch.where(inside.unsqueeze(1), pattern, images[rows])
    return out

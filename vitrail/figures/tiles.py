"""Tiles of pixels in a grid: kernels in colours, and heat maps; sheets of them by Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
GAP_PX, MARGIN_PX, TEXT_PX = 3, 10, 13
INK = "#222222"
# Five points of matplotlib's "plasma" (CC0), between which colours are mixed.
PLASMA = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)])


@dataclass(frozen=True, eq=False)
class Panel:
    """A title and a grid of tiles, each uint8 (h, w, 3), all of one size."""

    title: str
    tiles: Sequence[Pixels]
    columns: int


def colour_tiles(patches: Floats) -> list[Pixels]:
    """patches: (n, h, w, C). Each stretched to the whole range; C other than 3 as gray means."""
    rgb = (
        patches if patches.shape[3] == 3 else patches.mean(axis=3, keepdims=True).repeat(3, axis=3)
    )
    low = rgb.min(axis=(1, 2, 3), keepdims=True)
    span = rgb.max(axis=(1, 2, 3), keepdims=True) - low
    stretched = (rgb - low) / np.where(span > 0, span, 1)
    return list(np.rint(stretched * 255).astype(np.uint8))


def colours(values: Floats) -> Floats:
    """values: (...) in [0, 1]. Returns (..., 3) in 0..255, from dark blue to yellow."""
    places = np.linspace(0, 1, len(PLASMA))
    return np.stack([np.interp(values, places, PLASMA[:, i]) for i in range(3)], axis=-1)


def heat_tiles(grids: Floats, low: float, high: float) -> list[Pixels]:
    """grids: (n, h, w) with values from low to high."""
    shares = np.clip((np.nan_to_num(grids, nan=low) - low) / ((high - low) or 1.0), 0, 1)
    return list(np.rint(colours(shares)).astype(np.uint8))


def evenly(count: int, most: int) -> list[int]:
    """All places of an axis, or `most` of them evenly."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


def tile_sheet(tiles: Sequence[Pixels], columns: int, gap: int = 0) -> Pixels:
    """Tiles (h, w, 3) as one image (H, W, 4), transparent between them; 0: a gap of an eighth."""
    h, w = tiles[0].shape[:2]
    gap = gap or max(1, min(h, w) // 8)
    rows = -(-len(tiles) // columns)
    whole = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, 4), np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (h + gap), place % columns * (w + gap)
        whole[top : top + h, left : left + w, :3] = tile
        whole[top : top + h, left : left + w, 3] = 255
    return whole


def sheet(panels: Sequence[Panel], *, note: str = "", tile_px: int = 48) -> Image.Image:
    """Panels side by side, a note below. Tiles are drawn with pixels as squares, their longer side
    about tile_px.
    """
    drawn = [_panel(panel, tile_px) for panel in panels]
    width = sum(image.width for image in drawn) + MARGIN_PX * (len(drawn) + 1)
    height = max(image.height for image in drawn) + 2 * MARGIN_PX + (TEXT_PX + 6 if note else 0)
    font = ImageFont.load_default(TEXT_PX)
    width = max(width, math.ceil(font.getlength(note)) + 2 * MARGIN_PX)
    page = Image.new("RGB", (width, height), "white")
    left = MARGIN_PX
    for image in drawn:
        page.paste(image, (left, MARGIN_PX))
        left += image.width + MARGIN_PX
    ImageDraw.Draw(page).text((MARGIN_PX, height - TEXT_PX - MARGIN_PX), note, INK, font)
    return page


def _panel(panel: Panel, tile_px: int) -> Image.Image:
    font, title_px = ImageFont.load_default(TEXT_PX), TEXT_PX + 6
    factor = max(1, round(tile_px / max(panel.tiles[0].shape[:2])))
    large = [tile.repeat(factor, axis=0).repeat(factor, axis=1) for tile in panel.tiles]
    tiles = Image.fromarray(tile_sheet(large, panel.columns, GAP_PX))
    width = max(tiles.width, math.ceil(font.getlength(panel.title)))
    image = Image.new("RGB", (width, title_px + tiles.height), "white")
    ImageDraw.Draw(image).text((0, 0), panel.title, INK, font)
    image.paste(tiles, (0, title_px), tiles)
    return image

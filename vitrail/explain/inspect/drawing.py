"""The two kinds of drawing of the inspection figures: tiles (PNG, by Pillow) and dots (SVG)."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vitrail.explain.overlay import colours

Floats = NDArray[np.float64]
GAP_PX, MARGIN_PX, TEXT_PX = 3, 10, 13
INK, LIGHT = "#222222", "#d9d9d9"
SERIES = ("#1f5fa8", "#d1601f")  # told apart by any colour vision; the second has squares
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 356, 56, 14, 50, 44  # px of a plot
LEGEND_PX = 36  # its baseline, below the title and above the plot
NAME_LENGTH = 30  # characters of a model's name in a legend; the end of a path says most


@dataclass(frozen=True, eq=False)
class Panel:
    """A title and a grid of tiles, each uint8 (h, w, 3), all of one size."""

    title: str
    tiles: Sequence[NDArray[np.uint8]]
    columns: int


def colour_tiles(patches: Floats) -> list[NDArray[np.uint8]]:
    """patches: (n, h, w, C). Each stretched to the whole range; C other than 3 as gray means."""
    rgb = (
        patches if patches.shape[3] == 3 else patches.mean(axis=3, keepdims=True).repeat(3, axis=3)
    )
    low = rgb.min(axis=(1, 2, 3), keepdims=True)
    span = rgb.max(axis=(1, 2, 3), keepdims=True) - low
    stretched = (rgb - low) / np.where(span > 0, span, 1)
    return list(np.rint(stretched * 255).astype(np.uint8))


def heat_tiles(grids: Floats, low: float, high: float) -> list[NDArray[np.uint8]]:
    """grids: (n, h, w) with values from low to high."""
    shares = np.clip((np.nan_to_num(grids, nan=low) - low) / ((high - low) or 1.0), 0, 1)
    return list(np.rint(colours(shares)).astype(np.uint8))


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
    h, w = panel.tiles[0].shape[:2]
    factor = max(1, round(tile_px / max(h, w)))
    rows = -(-len(panel.tiles) // panel.columns)
    step = (h * factor + GAP_PX, w * factor + GAP_PX)
    width = max(panel.columns * step[1], math.ceil(font.getlength(panel.title)))
    image = Image.new("RGB", (width, title_px + rows * step[0]), "white")
    ImageDraw.Draw(image).text((0, 0), panel.title, INK, font)
    for place, tile in enumerate(panel.tiles):
        row, column = divmod(place, panel.columns)
        large = Image.fromarray(tile).resize((w * factor, h * factor), Image.Resampling.NEAREST)
        image.paste(large, (column * step[1], title_px + row * step[0]))
    return image


def scatter(
    series: Sequence[tuple[str, Floats]],
    *,
    title: str,
    y_name: str,
    level: tuple[str, float] | None = None,
) -> str:
    """An SVG file: values (L, heads) of each series over the depth, a dot a head, the mean as a
    line; at most two series. level: a dashed line with its name.
    """
    depth = max(len(values) for _, values in series)
    highest = max([float(values.max()) for _, values in series] + [level[1] if level else 0])
    top = _rounded_up(highest)

    def x(layer: float, values: Floats) -> float:
        share = (layer + 0.5) / len(values)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM), 1)

    parts = [_text(LEFT, 18, title, size=14), _text(14, HEIGHT / 2, y_name, turn=True)]
    for step in range(5):
        value = top * step / 4
        parts.append(_line(LEFT, y(value), WIDTH - RIGHT, y(value), LIGHT))
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", anchor="end"))
    longest = next(values for _, values in series if len(values) == depth)
    for layer in range(0, depth, max(1, depth // 12)):
        parts.append(_text(x(layer, longest), HEIGHT - BOTTOM + 16, str(layer), anchor="middle"))
    is_mixed = len({len(values) for _, values in series}) > 1
    name = "layer of the deeper model; the other is stretched" if is_mixed else "layer"
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 8, name, anchor="middle"))
    if level:
        parts.append(_line(LEFT, y(level[1]), WIDTH - RIGHT, y(level[1]), INK, dash=True))
        parts.append(_text(WIDTH - RIGHT, y(level[1]) + 14, level[0], anchor="end"))
    for number, (name, values) in enumerate(series):
        colour = SERIES[number % len(SERIES)]
        for layer, heads in enumerate(values):
            parts += [_mark(x(layer, values), y(float(value)), number, colour) for value in heads]
        path = " ".join(f"{x(i, values)},{y(float(row.mean()))}" for i, row in enumerate(values))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        if len(series) > 1:
            left = LEFT + 4 + 230 * number
            parts.append(_mark(left, LEGEND_PX - 4, number, colour))
            parts.append(_text(left + 8, LEGEND_PX, shortened(name)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="{INK}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def shortened(name: str) -> str:
    """A name of at most 30 characters: its end."""
    return name if len(name) <= NAME_LENGTH else "..." + name[3 - NAME_LENGTH :]


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 or 10 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        factor * power for factor in (1, 2, 4, 6, 8, 10) if value <= factor * power * 1.0001
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: bool = False) -> str:
    dashes = ' stroke-dasharray="5 4"' if dash else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"{dashes}/>'


def _text(
    x: float, y: float, content: str, *, anchor: str = "start", size: int = 12, turn: bool = False
) -> str:
    turned = f' transform="rotate(-90 {x} {y})" text-anchor="middle"' if turn else ""
    placed = turned or f' text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" font-size="{size}"{placed}>{html.escape(content)}</text>'


def _mark(x: float, y: float, number: int, colour: str) -> str:
    """A dot for the first series, a hollow square for the second."""
    if number % 2 == 0:
        return f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}" fill-opacity="0.6"/>'
    place = f'x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"'
    return f'<rect {place} fill="none" stroke="{colour}"/>'

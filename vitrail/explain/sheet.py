"""A sheet about one image: the image, and side by side what each method shows of it.

A column a method: the image under its map, the map alone, the scale of its colours with the values
at both ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitrail.data.images.rgb import Pixels
from vitrail.explain.methods.maps import Array
from vitrail.explain.overlay import BLUE, CLIP, RED, enlarged
from vitrail.figures.tiles import INK, colours

SIDE_PX, GAP_PX, TEXT_PX, BAR_PX = 224, 12, 14, 12
LINE_PX = TEXT_PX + 5


@dataclass(frozen=True, eq=False)
class Column:
    """What one method shows. values: (H, W), the map; low, high: what the ends of the scale mean.
    overlay: the map over its image.
    """

    title: str
    overlay: Image.Image
    values: Array
    low: float
    high: float

    @property
    def drawn(self) -> Image.Image:
        """The map alone, in the colours of the scale."""
        return Image.fromarray(coloured(self.values, self.low, self.high))

    @property
    def scale(self) -> Image.Image:
        """The colours from `low` to `high`, from left to right."""
        line = np.linspace(self.low, self.high, SIDE_PX, dtype=np.float32)
        return Image.fromarray(coloured(np.tile(line, (BAR_PX, 1)), self.low, self.high))

    @property
    def ends(self) -> tuple[str, str]:
        """Both ends in three digits."""
        return f"{self.low:.3g}", f"{self.high:.3g}"


def ends_of(values: Array, low: float) -> tuple[float, float]:
    """What the ends of the colours mean in an overlay of `values`; `low` where none is below 0."""
    if values.min() < 0:
        scale = float(np.quantile(np.abs(values), CLIP)) or 1.0
        return -scale, scale
    return low, max(float(values.max()), low)


def coloured(values: Array, low: float, high: float) -> Pixels:
    """uint8 (H, W, 3) of values (H, W): dark blue to yellow; with signs blue, white, red."""
    if low < 0:
        shares = np.clip(values / high, -1, 1)[..., None]
        colour = np.where(shares > 0, RED, BLUE)
        mixed = 255 * (1 - np.abs(shares)) + colour * np.abs(shares)
    else:
        mixed = colours(np.clip((values - low) / ((high - low) or 1.0), 0, 1))
    return np.asarray(np.rint(mixed), np.uint8)


def fitted(image: Image.Image) -> Image.Image:
    """The image with its longer side at 224 px; a small one with its pixels as squares."""
    factor = SIDE_PX / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BICUBIC
    return image.convert("RGB").resize(size, how)


def sheet(pixels: Pixels, words: Sequence[str], columns: Sequence[Column]) -> Image.Image:
    """The sheet as an image. pixels: uint8 (H, W, 1 or 3); words: lines below the image."""
    first = fitted(enlarged(pixels))
    font = ImageFont.load_default(TEXT_PX)
    lines = [line for word in words for line in wrapped(word, first.width, font)]
    height = 2 * GAP_PX + LINE_PX
    height += max(
        first.height + GAP_PX + LINE_PX * len(lines),
        2 * (first.height + GAP_PX) + BAR_PX + 2 * LINE_PX,
    )
    width = GAP_PX + (first.width + GAP_PX) * (1 + len(columns))
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    top = GAP_PX + LINE_PX
    page.paste(first, (GAP_PX, top))
    for number, line in enumerate(lines):
        pen.text((GAP_PX, top + first.height + GAP_PX + LINE_PX * number), line, INK, font)
    for place, one in enumerate(columns, 1):
        left = GAP_PX + place * (first.width + GAP_PX)
        pen.text((left, GAP_PX), one.title, INK, font)
        page.paste(fitted(one.overlay).resize(first.size), (left, top))
        page.paste(fitted(one.drawn).resize(first.size), (left, top + first.height + GAP_PX))
        below = top + 2 * (first.height + GAP_PX)
        page.paste(one.scale.resize((first.width, BAR_PX)), (left, below))
        low, high = one.ends
        pen.text((left, below + BAR_PX + 3), low, INK, font)
        right = left + first.width - math.ceil(font.getlength(high))
        pen.text((right, below + BAR_PX + 3), high, INK, font)
    return page


def wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """The text in lines of at most `width` px; a longer word is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(cut(word, width, font))
    return [line for line in lines if line]


def cut(word: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The beginning of a word that is too wide."""
    while len(word) > 1 and font.getlength(word) > width:
        word = word[:-1]
    return word

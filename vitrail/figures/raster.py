"""A drawing as PNG, by Pillow: shapes at three times the size, made smaller; text at its own size.

The letters are those of the font that comes with Pillow, so a file is the same wherever it is made;
a letter that the font lacks is a box.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from functools import cache

from PIL import Image, ImageColor, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from vitrail.figures.palette import COLOURS, light, look
from vitrail.figures.svg import Shape, Svg

SCALE, FINER = 2, 3  # pixels a px of the drawing; how much finer shapes are drawn first
PLACES = ("x", "y", "width", "height", "x1", "y1", "x2", "y2", "cx", "cy", "r")
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}

Point = tuple[float, float]


def png(drawing: Svg, described: dict[str, str] | None = None) -> bytes:
    """The drawing on white; `described` are texts of the file. Turned text is not known here."""
    factor = SCALE * FINER
    size = (round(drawing.width * factor), round(drawing.height * factor))
    image = Image.new("RGB", size, COLOURS["panel"][0])
    pen = ImageDraw.Draw(image, "RGBA")
    for mark in drawing.marks:
        if mark.tag != "text":
            _shape(pen, mark, light(look(mark.tag, mark.kind)), factor)
    image = image.reduce(FINER)
    pen = ImageDraw.Draw(image)
    for mark in drawing.marks:
        if mark.tag == "text":
            _letters(pen, mark, light(look(mark.tag, mark.kind)))
    info, stream = PngInfo(), io.BytesIO()
    for key, value in (described or {}).items():
        info.add_text(key, value)
    image.save(stream, "PNG", pnginfo=info, optimize=True)
    return stream.getvalue()


def _shape(pen: ImageDraw.ImageDraw, mark: Shape, own: dict[str, str], factor: float) -> None:
    own = {**own, **mark.geometry}
    at = {key: float(own[key]) * factor for key in PLACES if key in own}
    fill, stroke = _ink(own, "fill"), _ink(own, "stroke")
    width = float(own.get("stroke-width", "1")) * factor
    if mark.tag in ("line", "polyline"):
        points = _points(mark, factor) or [(at["x1"], at["y1"]), (at["x2"], at["y2"])]
        gaps = [float(one) * factor for one in own.get("stroke-dasharray", "").split()]
        for piece in _pieces(points, gaps) if stroke else ():
            pen.line(piece, fill=stroke, width=round(width), joint="curve")
    elif mark.tag == "polygon":
        pen.polygon(_points(mark, factor), fill=fill)
        if stroke:
            pen.line([*_points(mark, factor), *_points(mark, factor)[:2]], stroke, round(width))
    elif mark.tag == "circle":
        r = at["r"] + (width / 2 if stroke else 0)
        box = (at["cx"] - r, at["cy"] - r, at["cx"] + r, at["cy"] + r)
        pen.ellipse(box, fill=fill, outline=stroke, width=round(width) if stroke else 0)
    else:
        right, below = at["x"] + at["width"] - 1, at["y"] + at["height"] - 1  # the last pixels
        pen.rectangle((at["x"], at["y"], right, below), fill=fill)


def _ink(own: dict[str, str], key: str) -> tuple[int, int, int, int] | None:
    """The colour of a fill or stroke with its opacity."""
    if own.get(key, "none") == "none":
        return None
    red, green, blue, *_ = ImageColor.getrgb(own[key])
    return red, green, blue, round(255 * float(own.get(f"{key}-opacity", "1")))


def _points(mark: Shape, factor: float) -> list[Point]:
    pairs = (pair.split(",") for pair in mark.geometry.get("points", "").split())
    return [(float(x) * factor, float(y) * factor) for x, y in pairs]


def _pieces(points: Sequence[Point], gaps: Sequence[float]) -> Iterator[list[Point]]:
    """The parts of a line that are drawn; gaps: lengths drawn and left out, in turn, or none."""
    if not gaps:
        yield list(points)
        return
    turn, left, piece = 0, gaps[0], [points[0]]
    for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False):
        length, done = math.hypot(x2 - x1, y2 - y1), 0.0
        while length - done > left:
            done += left
            at = (x1 + (x2 - x1) * done / length, y1 + (y2 - y1) * done / length)
            if turn % 2 == 0:
                yield [*piece, at]
            turn += 1
            left, piece = gaps[turn % len(gaps)], [at]
        left -= length - done
        piece.append((x2, y2))
    if turn % 2 == 0 and len(piece) > 1:
        yield piece


def _letters(pen: ImageDraw.ImageDraw, mark: Shape, own: dict[str, str]) -> None:
    at = (float(mark.geometry["x"]) * SCALE, float(mark.geometry["y"]) * SCALE)
    font = _font(float(own["font-size"].removesuffix("px")) * SCALE)
    anchor = ANCHORS[own.get("text-anchor", "start")]
    if "paint-order" in own:
        width = float(own["stroke-width"].removesuffix("px")) / 2 * SCALE
        pen.text(at, mark.content, own["stroke"], font, anchor, stroke_width=width)
    bold = 0.25 * SCALE if "font-weight" in own else 0
    pen.text(at, mark.content, own["fill"], font, anchor, stroke_width=bold)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

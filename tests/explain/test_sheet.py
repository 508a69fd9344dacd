"""The sheet of an image: what stands where."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vitrail.explain.sheet import BAR_PX, GAP_PX, LINE_PX, Column, sheet

SIDES = (97, 224)  # width and height of what is pasted


def test_image_overlays_maps_and_scales_stand_in_columns() -> None:
    """Each of one colour, so that a pixel in its middle tells it."""
    width, height = SIDES
    tall = (height, width)
    pixels = np.full((*tall, 3), (10, 20, 30), np.uint8)
    columns = [
        Column(name, Image.new("RGB", SIDES, colour), np.full(tall, value, np.float32), 0.0, 1.0)
        for name, colour, value in (("a", (200, 0, 0), 1.0), ("b", (0, 0, 200), 0.0))
    ]
    page = sheet(pixels, ["words"], columns)
    across, down = width + GAP_PX, height + GAP_PX
    x, y = GAP_PX + width // 2, GAP_PX + LINE_PX + height // 2
    assert page.getpixel((x, y)) == (10, 20, 30)
    for place, one in enumerate(columns, 1):
        left = x + place * across
        assert page.getpixel((left, y)) == one.overlay.getpixel((0, 0))
        assert page.getpixel((left, y + down)) == one.drawn.getpixel((0, 0))
        bar = GAP_PX + LINE_PX + 2 * down + BAR_PX // 2
        ends = [page.getpixel((left + side, bar)) for side in (-width // 2 + 2, width // 2 - 2)]
        assert ends[0] != ends[1]
        assert (255, 255, 255) not in ends
    assert page.width == GAP_PX + 3 * across

"""PNG of a drawing: marks at their places in their colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.figures.test_plot import made_figure
from vitrail.figures.palette import COLOURS
from vitrail.figures.plot import alt_text, plot
from vitrail.figures.raster import SCALE, png
from vitrail.figures.svg import Svg


def pixels_of(drawing: Svg) -> NDArray[np.uint8]:
    """uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png(drawing))).convert("RGB"))


def rgb(name: str) -> list[int]:
    return [int(COLOURS[name][0][i : i + 2], 16) for i in (1, 3, 5)]


def test_a_figure_has_its_size_its_words_and_its_colours() -> None:
    figure = made_figure()
    drawing = plot(figure)
    told = {"Title": figure.title, "Description": alt_text(figure) + " \u732b"}
    with Image.open(io.BytesIO(png(drawing, told))) as image:
        assert image.size == (round(drawing.width * SCALE), round(drawing.height * SCALE))
        assert {key: image.info[key] for key in told} == told
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels[0] == 255).all()
    for name in ("one", "two"):
        assert (pixels == rgb(name)).all(axis=1).any()


def test_shapes_lie_where_the_drawing_says() -> None:
    drawing = Svg(40, 40, "t")
    drawing.rect("f1", 2, 4, 10, 6)
    drawing.circle("f2", 30, 10, 5)
    drawing.path("f3", [(2, 20), (12, 20), (12, 30), (2, 30)], is_area=True)
    drawing.line("s4 line", 20, 34, 38, 34)
    found = pixels_of(drawing)
    for name, inside, outside in (
        ("one", (7, 7), (7, 13)),
        ("two", (10, 30), (10, 37)),
        ("three", (25, 7), (25, 14)),
        ("four", (34, 30), (37, 30)),
    ):
        assert found[inside[0] * SCALE, inside[1] * SCALE].tolist() == rgb(name)
        assert found[outside[0] * SCALE, outside[1] * SCALE].tolist() == [255, 255, 255]


def test_an_opaque_share_is_mixed_with_the_ground() -> None:
    drawing = Svg(10, 10, "t")
    drawing.rect("f1", 0, 0, 10, 10, opacity=0.5)
    mixed = (np.array(rgb("one")) + 255) / 2
    assert pixels_of(drawing)[9, 9] == pytest.approx(mixed, abs=1)


def test_dashes_leave_gaps_of_their_length() -> None:
    """5 px drawn and 4 left out, around a corner as well."""
    for points in ([(5, 5), (35, 5)], [(5, 5), (20, 5), (20, 20)]):
        drawing = Svg(40, 40, "t")
        drawing.path("line s1 dash", points)  # 5 on, 4 off
        whole = Svg(40, 40, "t")
        whole.path("line s1", points)
        found = [(pixels_of(one) == rgb("one")).all(axis=2).sum() for one in (drawing, whole)]
        assert 0.45 < found[0] / found[1] < 0.75


def test_text_ends_at_its_anchor() -> None:
    for kind, low, high in (("", 50, 100), ("mid", 20, 80), ("end", 0, 50)):
        drawing = Svg(100, 20, "t")
        drawing.text(kind, 50, 14, "wide")
        columns = np.nonzero((pixels_of(drawing) < 200).any(axis=(0, 2)))[0] / SCALE
        assert low - 1 <= columns.min()
        assert columns.max() <= high + 1
        assert np.ptp(columns) > 15

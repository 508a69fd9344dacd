from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from vitrail.errors import EnvironmentFault
from vitrail.studies.results import plots
from vitrail.studies.results.figure_scales import log_ticks, short
from vitrail.studies.results.plots import PALETTE, alt_text, balanced, draw
from vitrail.studies.results.result import Figure, Series

SIZES = [500.0, 1000.0, 2000.0, 4000.0]


def made_figure(key: str = "made", names: Sequence[str] = ("ViT", "BiT")) -> Figure:
    """Points with intervals and a fit an arm."""
    series = []
    for colour, name in enumerate(names):
        tops = [0.5 + 0.05 * colour + 0.1 * i for i in range(4)]
        low, high = ([top + side for top in tops] for side in (-0.04, 0.04))
        fit = Series(f"{name} fit", SIZES, tops, low, high, "fit", colour)
        series += [fit, Series(name, SIZES, tops, low, high, "marks", colour)]
    return Figure(key, "More pictures, fewer mistakes", "pictures", "top-1", series, log_x=True)


def texts(figure: Figure) -> list[str]:
    """Every text of the drawing that is shown."""
    with matplotlib.rc_context():
        matplotlib.rcParams.update(plots.STYLE)
        drawing = plots._drawing(figure)
        drawing.draw_without_rendering()
        found = drawing.findobj(matplotlib.text.Text)
        return [one.get_text() for one in found if one.get_visible() and one.get_text()]


def test_both_files_are_made_and_are_the_same_again(tmp_path: Path) -> None:
    png, svg = draw(made_figure(), tmp_path / "a")
    assert (png.name, svg.name) == ("made.png", "made.svg")
    again = draw(made_figure(), tmp_path / "b")
    assert png.read_bytes() == again[0].read_bytes()
    assert svg.read_bytes() == again[1].read_bytes()
    with Image.open(png) as image:
        assert image.width == round(plots.WIDTH * plots.DPI)
        assert image.info["Title"] == "More pictures, fewer mistakes"
        assert image.info["Description"] == alt_text(made_figure())
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels[0] == 255).all()
    for colour in PALETTE[:2]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).any()


def test_the_svg_needs_no_font_and_asks_for_nothing(tmp_path: Path) -> None:
    content = draw(made_figure(), tmp_path)[1].read_text(encoding="utf-8")
    root = ElementTree.fromstring(content)
    tags = {one.tag.rpartition("}")[2] for one in root.iter()}
    assert not tags & {"text", "image", "script", "foreignObject"}
    hrefs = [value for one in root.iter() for key, value in one.attrib.items() if "href" in key]
    assert all(value.startswith("#") for value in hrefs)
    assert "date" not in tags


def test_nothing_of_matplotlib_is_left_changed(tmp_path: Path) -> None:
    names = set(matplotlib.rcParams) - {"backend"}  # to read that one would choose one
    before = {name: matplotlib.rcParams[name] for name in names}
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        ugly = draw(made_figure(), tmp_path / "a")[0].read_bytes()
        assert matplotlib.rcParams["font.size"] == 30
    assert ugly == draw(made_figure(), tmp_path / "b")[0].read_bytes()
    assert {name: matplotlib.rcParams[name] for name in names} == before
    assert "matplotlib.pyplot" not in sys.modules


def test_a_fit_has_no_entry_of_its_own() -> None:
    shown = texts(made_figure())
    assert "ViT" in shown
    assert "ViT fit" not in shown
    assert [one for one in shown if one in ("500", "1k", "2k", "4k")] == ["500", "1k", "2k", "4k"]
    alone = Figure(
        "k", "t", "x", "y", [Series("a", [1], [1]), Series("f", [1], [1], colour=1, kind="fit")]
    )
    assert "f" in texts(alone)


@pytest.mark.parametrize("num", [1, 2, 5, 9])
def test_title_legend_and_plot_do_not_overlap(num: int) -> None:
    names = [f"an arm with a long name, number {i}" for i in range(num)]
    with matplotlib.rc_context():
        matplotlib.rcParams.update(plots.STYLE)
        drawing = plots._drawing(made_figure(names=names))
        drawing.draw_without_rendering()
        renderer = drawing.canvas.get_renderer()
        boxes = [one.get_window_extent(renderer) for one in drawing.texts + drawing.legends]
        boxes.append(drawing.axes[0].get_tightbbox(renderer))
    assert len(boxes) == (3 if num == 1 else 4)
    for i, one in enumerate(boxes):
        assert one.x0 >= 0
        assert one.y0 >= 0
        assert one.x1 <= drawing.bbox.width
        assert one.y1 <= drawing.bbox.height
        assert not any(one.overlaps(other) for other in boxes[:i])


def test_hostile_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "$\\frac{1}{$", "\u732b_x", "a&b\x1b\x00"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = draw(made_figure(names=names), tmp_path)[1].read_text(encoding="utf-8")
    assert "<script" not in svg
    ElementTree.fromstring(svg)
    assert "$\\frac{1}{$" in texts(made_figure(names=names[:2]))


def test_categories_points_without_interval_and_empty_series(tmp_path: Path) -> None:
    series = [
        Series("a", [0, 1, 2], [0.1, 0.2, 0.3], [0, math.nan, 0.2], [0.2, math.nan, 0.4], "marks"),
        Series("b", [0, 2], [0.1, 0.2], kind="line", colour=1),
        Series("c", [], [], colour=2),
    ]
    figure = Figure("k", "t", "x", "y", series, x_labels=["none", "1-D", "a long name of three"])
    draw(figure, tmp_path)
    assert "none" in texts(figure)
    assert "a: 0.1 at none, 0.3 at a long name of three." in alt_text(figure)
    draw(Figure("empty", "t", "x", "y", []), tmp_path)
    draw(Figure("empty-log", "t", "x", "y", [], log_x=True, log_y=True), tmp_path)
    draw(Figure("flat", "t", "x", "y", [Series("a", [3, 3], [0, 0])], log_x=True), tmp_path)
    draw(Figure("zero", "t", "x", "y", [Series("a", [1, 2], [0, 0.1])], log_y=True), tmp_path)


def test_one_wild_interval_does_not_flatten_the_figure() -> None:
    series = [Series("a", [1, 2], [0.5, 0.6], [-40.0, 0.59], [40.0, 0.61])]
    with matplotlib.rc_context():
        axes = plots._drawing(Figure("k", "t", "x", "y", series)).axes[0]
    low, high = axes.get_ylim()
    assert high - low < 0.35
    assert low < 0.5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (500, "500"),
        (1000, "1k"),
        (1500, "1.5k"),
        (2e7, "20M"),
        (3e12, "3T"),
        (3e-4, "3e-4"),
        (1.5e-3, "1.5e-3"),
        (0.01, "0.01"),
        (-2000, "-2k"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_ticks_of_a_logarithmic_axis() -> None:
    assert log_ticks(400, 5000, [500, 1000, 4000]) == [500, 1000, 4000]
    assert log_ticks(400, 17000, [500, 1000, 2000], 16000) == [500, 1000, 2000, 4000, 8000, 16000]
    assert log_ticks(340, 6100, [360, 1400, 2890], 5780) == [360, 1400, 2890, 5780]  # its own end
    assert log_ticks(340, 3100, [360, 1400, 2890], 2890) == [360, 1400, 2890]
    assert log_ticks(0.9, 2e6, [1, 1.01, 1e6]) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
    assert log_ticks(0.04, 0.3, []) == [0.05, 0.1, 0.2] or len(log_ticks(0.04, 0.3, [])) >= 3
    assert all(0.31 <= tick <= 0.36 for tick in log_ticks(0.31, 0.36, []))


def test_titles_are_wrapped_into_lines_of_about_one_length() -> None:
    lines = balanced("With little data the ResNet leads; ViT catches up by 20,000 pictures", 66)
    first, second = lines.split("\n")
    assert abs(len(first) - len(second)) < 10
    assert balanced("short", 66) == "short"


def test_colours_keep_apart_from_white_and_from_one_another() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    assert all(1.05 / (luminance(colour) + 0.05) >= 3 for colour in PALETTE)  # WCAG 1.4.11
    assert len(set(PALETTE)) == len(PALETTE)


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentFault) as caught:
        draw(made_figure(), tmp_path)
    assert caught.value.code == "VIT-520"
    assert "pip install 'vitrail[studies]'" in caught.value.hint


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="VIT-506") as caught:
        draw(made_figure(), tmp_path / "file")
    assert "--out" in caught.value.hint

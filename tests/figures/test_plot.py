"""Plots: points inside, words apart, names as text, and the same files again."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pytest

from vitrail.errors import EnvironmentFault
from vitrail.figures.layers import layer_figure, shortened
from vitrail.figures.palette import TITLE_PX
from vitrail.figures.plot import WIDTH, Figure, Series, alt_text, balanced, curve, plot, text_width
from vitrail.figures.svg import Svg
from vitrail.studies.results.plots import draw

SIZES = [500.0, 1000.0, 2000.0, 4000.0]
Box = tuple[float, float, float, float]


def made_figure(key: str = "made", names: Sequence[str] = ("ViT", "BiT")) -> Figure:
    """Points with intervals and a fit an arm."""
    series = []
    for colour, name in enumerate(names):
        tops = [0.5 + 0.05 * colour + 0.1 * i for i in range(4)]
        low, high = ([top + side for top in tops] for side in (-0.04, 0.04))
        fit = Series(f"{name} fit", SIZES, tops, low, high, "fit", colour)
        series += [fit, Series(name, SIZES, tops, low, high, "marks", colour)]
    return Figure(key, "More images, fewer mistakes", "images", "top-1", series, log_x=True)


def texts(figure: Figure) -> list[str]:
    """Every text of the drawing."""
    return [mark.content for mark in plot(figure).marks if mark.tag == "text"]


def places(drawing: Svg, tag: str) -> list[tuple[float, float]]:
    """The points of lines, areas and discs of a drawing."""
    found = []
    for mark in drawing.marks:
        if mark.tag == tag == "circle":
            found.append((float(mark.geometry["cx"]), float(mark.geometry["cy"])))
        elif mark.tag == tag:
            pairs = (pair.split(",") for pair in mark.geometry["points"].split())
            found += [(float(x), float(y)) for x, y in pairs]
    return found


def boxes(drawing: Svg) -> list[Box]:
    """About where each text stands: left, top, right, bottom."""
    found = []
    for mark in drawing.marks:
        if mark.tag == "text":
            px = TITLE_PX if mark.kind == "title" else 11
            width, x, y = text_width(mark.content, px), mark.geometry["x"], mark.geometry["y"]
            share = 1.0 if "end" in mark.kind else 0.5 if "mid" in mark.kind else 0.0
            left = float(x) - share * width
            found.append((left, float(y) - 0.75 * px, left + width, float(y) + 0.2 * px))
    return found


def test_both_files_are_made_and_are_the_same_again(tmp_path: Path) -> None:
    png, svg = draw(made_figure(), tmp_path / "a")
    assert (png.name, svg.name) == ("made.png", "made.svg")
    again = draw(made_figure(), tmp_path / "b")
    assert png.read_bytes() == again[0].read_bytes()
    assert svg.read_bytes() == again[1].read_bytes()


def test_a_plot_keeps_its_points_inside() -> None:
    """Also those whose interval, or whose value, lies outside of the scale."""
    series = [
        Series("a", [0, 1, 2], [0.5, 0.6, 0.55], [-40.0, 0.5, math.nan], [40.0, 0.7, math.nan]),
        curve("b", [(0, 0.1), (1, 0.9), (2, 0.4)], 1),
        Series("c", [0, 1], [0.2, 0.3], [0.1, 0.2], [0.3, 9.0], "fit", 2),
    ]
    for is_bare in (False, True):
        drawing = plot(Figure("k", "t", "x", "y", series), is_bare=is_bare)
        found = [
            place for tag in ("polyline", "polygon", "circle") for place in places(drawing, tag)
        ]
        assert len(found) >= 15
        for x, y in found:
            assert 10 <= x <= drawing.width
            assert 10 <= y <= drawing.height - 20
    single = plot(Figure("k", "t", "x", "y", [curve("a", [(3.0, 1.0)])]), is_bare=True)
    assert len(places(single, "circle")) == 1


def test_values_stand_where_the_ticks_say() -> None:
    """Halfway between the ticks around it, on a linear and on a logarithmic scale."""
    for is_log, values in ((False, [0.0, 5.0, 10.0]), (True, [1.0, math.sqrt(10), 10.0])):
        figure = Figure("k", "t", "x", "y", [Series("a", [1, 2, 3], values)], log_y=is_log)
        drawing = plot(figure)
        low, middle, high = (y for _, y in places(drawing, "circle"))
        assert middle == pytest.approx((low + high) / 2, abs=0.1)
        rungs = {
            mark.content: float(mark.geometry["y"]) - 4
            for mark in drawing.marks
            if mark.tag == "text" and mark.kind == "end"
        }
        assert rungs["10"] == pytest.approx(high, abs=0.1)


def test_dots_and_the_level_stay_inside() -> None:
    values = np.array([[1.0, 3.0], [2.0, 2.0]])
    drawing = plot(layer_figure([("heads", values)], "t", "nats", ("most", 4.0)), is_bare=True)
    found = re.findall(r'<circle class="f1 light" cx="([\d.]+)" cy="([\d.]+)"', drawing.__html__())
    assert len(found) == 4
    for x, y in found:
        assert 42 <= float(x) <= 370
        assert 10 <= float(y) <= 190
    assert any(mark.content == "most" for mark in drawing.marks)


def test_models_of_other_depths_share_an_axis() -> None:
    found = [("a", np.ones((4, 2))), ("b", np.ones((2, 3)))]
    figure = layer_figure(found, "t", "y")
    assert figure.x_name == "layer of the deeper model; the other is stretched"
    assert [sorted(set(one.x)) for one in figure.series[::2]] == [[0, 1, 2, 3], [0.5, 2.5]]
    assert shortened("runs/photos-1") == "runs/photos-1"
    assert shortened(f"/home/{'x' * 40}/runs/photos-1") == "..." + "x" * 13 + "/runs/photos-1"


def test_the_svg_asks_for_nothing_and_has_its_colours_in_both_schemes(tmp_path: Path) -> None:
    content = draw(made_figure(), tmp_path)[1].read_text(encoding="utf-8")
    root = ElementTree.fromstring(content)
    tags = {one.tag.rpartition("}")[2] for one in root.iter()}
    assert tags == {"svg", "style", "rect", "line", "text", "circle", "polyline", "polygon"}
    assert not [key for one in root.iter() for key in one.attrib if "href" in key or key == "style"]
    assert "url(" not in content
    (disc, *_) = root.iter("{http://www.w3.org/2000/svg}circle")
    assert disc.attrib["fill"] == "#0a62a9"  # for programs that read no style sheet
    assert "@media (prefers-color-scheme: dark)" in content
    assert ".f1 { fill: #6bb5f0 }" in content


def test_a_fit_has_no_entry_of_its_own() -> None:
    shown = texts(made_figure())
    assert "ViT" in shown
    assert "ViT fit" not in shown
    assert [one for one in shown if one in ("500", "1k", "2k", "4k")] == ["500", "1k", "2k", "4k"]
    both = [Series("a", [1], [1]), Series("f", [1], [1], colour=1, kind="fit")]
    assert "f" in texts(Figure("k", "t", "x", "y", both))


@pytest.mark.parametrize("num", [1, 2, 5, 9])
def test_title_legend_and_plot_do_not_overlap(num: int) -> None:
    names = [f"an arm with a long name, number {i}" for i in range(num)]
    drawing = plot(made_figure(names=names))
    found = boxes(drawing)
    assert len(found) >= 10
    for i, one in enumerate(found):
        assert one[0] >= 0
        assert one[1] >= 0
        assert one[2] <= WIDTH
        assert one[3] <= drawing.height
        for other in found[:i]:
            is_apart = one[0] >= other[2] or other[0] >= one[2]
            assert is_apart or one[1] >= other[3] or other[1] >= one[3]


def test_hostile_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "$\\frac{1}{$", "\u732b_x", 'a&b"\x1b\x00\u202e']
    figure = made_figure(names=names)
    svg = draw(figure, tmp_path)[1].read_text(encoding="utf-8")
    for content in (svg, plot(figure).__html__()):
        assert "<script" not in content
        assert not re.search("[\x00-\x09\x1b\u202e]", content)
        shown = [one.text for one in ElementTree.fromstring(content).iter() if "text" in one.tag]
        assert set(shown) >= {*names[:3], 'a&b"\\x1b\\x00\\u202e'}


def test_categories_points_without_interval_and_empty_series(tmp_path: Path) -> None:
    ends = ([0, math.nan, 0.2], [0.2, math.nan, 0.4])
    series = [
        Series("a", [0, 1, 2], [0.1, 0.2, 0.3], *ends, "marks"),
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
    (_, first), (_, second) = places(plot(Figure("k", "t", "x", "y", series)), "circle")
    assert first - second > 262 / 4


@pytest.mark.parametrize(
    ("zero", "values", "begins"),
    [
        ("", (2.0, 4.0), False),
        ("cheap", (2.0, 4.0), True),
        ("cheap", (3.0, 4.0), False),
        ("always", (3.0, 4.0), True),
    ],
)
def test_where_y_begins(
    zero: Literal["", "cheap", "always"], values: tuple[float, float], begins: bool
) -> None:
    shown = texts(Figure("k", "t", "x", "y", [Series("a", [3, 7], values)], zero=zero))
    assert any(float(one) == 0 for one in shown if re.fullmatch(r"[\d.]+", one)) == begins


@pytest.mark.parametrize("at", [1.1, 2.9])
def test_the_name_of_a_mark_stands_on_the_side_with_room(at: float) -> None:
    figure = Figure("k", "t", "x", "y", [Series("a", [1, 2, 3], [1, 2, 3])], mark=("name", at))
    drawing = plot(figure)
    (name,) = [one for one in drawing.marks if one.content == "name"]
    lines = [one.geometry for one in drawing.marks if one.kind == "axis dash"]
    (x,) = {float(one["x1"]) for one in lines}
    side = float(name.geometry["x"]) - x
    assert (side < 0, "end" in name.kind) == (at > 2, at > 2)


def test_ticks_are_at_marks_and_round_along_curves() -> None:
    points = [(0.2672, 1.0), (0.3563, 2.0)]
    curved = Figure("k", "t", "x", "y", [curve("a", points)])
    marked = Figure("k", "t", "x", "y", [Series("a", [x for x, _ in points], [1, 2])])
    assert {"0.28", "0.30"} <= set(texts(curved))
    assert {"0.2672", "0.3563"} <= set(texts(marked))


def test_titles_are_wrapped_into_lines_of_about_one_length() -> None:
    first, second = balanced("With little data the ResNet leads; ViT catches up by 20,000", 50)
    assert abs(len(first) - len(second)) < 10
    assert balanced("short", 66) == ["short"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="VIT-506") as caught:
        draw(made_figure(), tmp_path / "file")
    assert "--out" in caught.value.hint

"""The confusion matrix, bars and the strip of shares; tiles; colours."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.figures.diagrams import Bar, bars, matrix, strip
from vitrail.figures.palette import COLOURS, KINDS, SERIES, file_style, page_style
from vitrail.figures.svg import Shape, Svg
from vitrail.figures.tiles import Panel, colours, heat_tiles, sheet, tile_sheet


def of_kind(drawing: Svg, kind: str) -> list[Shape]:
    return [mark for mark in drawing.marks if mark.kind == kind]


def test_a_matrix_is_blue_where_right_and_as_strong_as_its_share() -> None:
    counts = {("a", "a"): 9, ("a", "b"): 1, ("b", "a"): 5, ("b", "b"): 5}
    drawing = matrix(["a", "b", "c"], lambda *at: counts.get(at, 0), lambda _: 10, "t")
    right, wrong = of_kind(drawing, "cell f1"), of_kind(drawing, "cell f2")
    assert len(of_kind(drawing, "cell soft")) == 9
    shades = [float(one.geometry["fill-opacity"]) for one in (*right, *wrong)]
    assert shades == [0.95, 0.7, 0.34, 0.7]
    # Numbers are light on strong colours, dark on weak ones.
    light, dark = (of_kind(drawing, f"mid {tone} through") for tone in ("on", "in"))
    assert ([one.content for one in light], [one.content for one in dark]) == (
        ["9", "5", "5"],
        ["1"],
    )
    assert right[0].hint == "actual a, predicted a: 9 (90.0%)"
    assert wrong[0].geometry["x"] == right[1].geometry["x"]  # predicted b: the same column
    assert wrong[0].geometry["y"] == right[0].geometry["y"]  # of a: the same row
    long = matrix(["n" * 30], lambda *_: 0, lambda _: 0, "t")
    assert {mark.content for mark in long.marks if mark.tag == "text"} == {"n" * 18 + ".."}
    assert 'width="' in long.__html__().split(">")[0]


def test_bars_are_as_high_as_their_values() -> None:
    found = [Bar(0.0, 0.5, 0.25, "low", level=0.3), Bar(0.5, 1.0, 1.0, "all")]
    drawing = bars(found, title="t", x_name="x", top=1, is_diagonal=True)
    low, high = of_kind(drawing, "f1")
    heights = [float(one.geometry["height"]) for one in (low, high)]
    assert heights == [45, 180]
    assert (low.hint, high.hint) == ("low", "all")
    assert len(of_kind(drawing, "line s2")) == len(of_kind(drawing, "axis dash")) == 1


def test_the_strip_has_two_rows_where_names_would_touch() -> None:
    apart = strip(0.7, (0.6, 0.8), [("a", 0.05), ("b", 0.5)], "this model")
    close = strip(0.7, (0.6, 0.8), [("a", 0.05), ("b", 0.1)], "this model")
    assert (apart.kind, close.kind) == ("strip", "strip high")
    label = next(mark for mark in apart.marks if mark.content == "this model 70.0 %")
    assert (label.kind, label.geometry["x"]) == ("strong end", "70.00%")


def test_heat_goes_from_dark_to_light_and_what_is_no_number_is_lowest() -> None:
    tile = heat_tiles(np.array([[[0.0, 0.5, 1.0, np.nan]]]), 0, 1)[0][0]
    assert (tile[0] == [13, 8, 135]).all()
    assert (tile[1] == [204, 71, 120]).all()
    assert (tile[2] == [240, 249, 33]).all()
    assert (tile[3] == tile[0]).all()
    assert colours(np.zeros((2, 3))).shape == (2, 3, 3)


def test_a_sheet_of_tiles() -> None:
    tiles = [np.full((8, 9, 3), value, np.uint8) for value in (1, 2, 3)]
    whole = tile_sheet(tiles, 2)
    assert whole.shape == (17, 19, 4)
    assert [int(whole[y, x, 0]) for y, x in ((0, 0), (7, 18), (16, 8))] == [1, 2, 3]
    assert whole[8].max() == whole[:, 9].max() == whole[9:, 10:].max() == 0
    page = np.asarray(sheet([Panel("t", tiles, 2)], note="below", tile_px=18))
    assert [int((page == value).all(axis=2).sum()) for value in (1, 2, 3)] == [16 * 18] * 3


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_keep_apart_from_the_ground_and_from_one_another(scheme: int) -> None:
    def luminance(name: str) -> float:
        colour = COLOURS[name][scheme]
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    ground = luminance("panel")
    for name in SERIES:
        darker, lighter = sorted((luminance(name), ground))
        assert (lighter + 0.05) / (darker + 0.05) >= 3  # WCAG 1.4.11
    assert len({COLOURS[name][scheme] for name in SERIES}) == len(SERIES)


def test_pages_and_files_know_every_colour() -> None:
    page, file = page_style(), file_style()
    for name, both in COLOURS.items():
        assert page.count(f"--{name}: {both[0]};") >= 1
        assert f"--{name}: {both[1]};" in page
    for name in KINDS:
        assert ("svg text" if name == "text" else f"svg .{name} ") in page
    assert ".s7 { stroke: #b9c0ca }" in file
    assert "var(" not in file

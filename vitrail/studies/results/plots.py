"""Figures as files: KEY.png for a screen, KEY.svg for paper and page.

An arm has a colour, a marker and a line style of its own, so that it is known without colours. The
colours keep apart under every kind of colour vision and from white. Points of several arms at the
same x stand side by side by a few pixels, so that their intervals can be seen. The files are the
same wherever they are made: matplotlib's own font as outlines, no date, no random names.

matplotlib is part of the extra [studies] and loaded by `draw`. Nothing here touches pyplot.
"""

from __future__ import annotations

import math
import os
import textwrap
import warnings
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from vitrail.errors import EnvironmentFault
from vitrail.files import whole_file
from vitrail.report.frame import shown
from vitrail.studies.results.figure_scales import set_scales, short
from vitrail.studies.results.result import Figure, Series

PALETTE = ("#0a62a9", "#b8430b", "#00755b", "#8e4585", "#9a6f00", "#2f87bd", "#4a4f57")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
MARKER_PT = (5.4, 5.2, 6.6, 5.0, 6.6, 7.6, 7.0, 6.6)  # as large to the eye
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 2)))
WIDTH, PLOT = 5.2, 2.95  # inches; PLOT: height from the name of y to the bottom
EDGE, _GAP = 0.12, 0.1  # inches: around all, and between the lines at the top
DPI = 150
INK, MUTED, GRID = "#1c1e22", "#5e646e", "#e6e4df"
_SIDE_PT, _SIDES_PT = 3.4, 16.0  # between points of two arms at one x, of the first and last
STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "vitrail",
    "axes.unicode_minus": False,
    "text.parse_math": False,
    "legend.fontsize": 8.5,
}


def draw(figure: Figure, folder: Path) -> tuple[Path, Path]:
    """Write KEY.png and KEY.svg into `folder`, which is made; returns their paths.

    Raises EnvironmentFault VIT-520 without matplotlib, VIT-506 where they cannot be written.
    """
    matplotlib = require_matplotlib()
    png, svg = folder / f"{figure.key}.png", folder / f"{figure.key}.svg"
    told = {"Title": shown(figure.title), "Description": alt_text(figure)}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the user's own settings are
        matplotlib.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name; a box is drawn
        drawing = _drawing(figure)
        with whole_file(png, replace=True) as place:
            drawing.savefig(place, format="png", dpi=DPI, metadata={**told, "Software": None})
        with whole_file(svg, replace=True) as place:
            unsaid = {"Date": None, "Creator": None}
            drawing.savefig(place, format="svg", metadata={**told, **unsaid})
    return png, svg


def require_matplotlib() -> Any:
    """matplotlib, with what draws to files. Raises EnvironmentFault VIT-520.

    It reads settings from a file `matplotlibrc` of the working directory when it is loaded, so it
    is loaded in another one.
    """
    try:
        with chdir(os.sep):
            import matplotlib
            import matplotlib.backends.backend_agg
            import matplotlib.backends.backend_svg
            import matplotlib.figure
    except ImportError as error:
        raise EnvironmentFault(
            "VIT-520",
            "drawing figures needs the package matplotlib.",
            hint="pip install 'vitrail[studies]'",
        ) from error
    return matplotlib


def alt_text(figure: Figure) -> str:
    """What the figure shows, in words: axes, and the ends of each series."""
    said = [f"{figure.title}. {figure.y_name} over {figure.x_name}."]
    for one in figure.series:
        if one.kind == "fit" or not len(one.x):
            continue
        first, last = (
            f"{one.y[i]:.3g} at {_x_text(figure, one.x[i])}" for i in (0, len(one.x) - 1)
        )
        said.append(f"{one.name}: {first}" + (f", {last}." if len(one.x) > 1 else "."))
    return shown(" ".join(said))


def balanced(text: str, room: int) -> str:
    """`text` on as few lines of at most `room` characters as it needs, of about one length."""
    lines = textwrap.wrap(text, room) or [""]
    while room > 1 and len(shorter := textwrap.wrap(text, room - 1)) == len(lines):
        room, lines = room - 1, shorter
    return "\n".join(lines)


def _x_text(figure: Figure, x: float) -> str:
    return figure.x_labels[round(x)] if figure.x_labels else short(x)


def _drawing(figure: Figure) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(WIDTH, PLOT), facecolor="white")
    FigureCanvasAgg(drawing)
    axes = drawing.add_axes((0.1, 0.1, 0.8, 0.8))
    sides = iter(_sides([one for one in figure.series if one.kind != "fit"]))
    for one in figure.series:
        _series(axes, one, 0.0 if one.kind == "fit" else next(sides))
    set_scales(axes, figure)
    _look(axes, figure)
    _arrange(drawing, axes, figure, _handles(figure.series))
    return drawing


def _sides(marked: Sequence[Series]) -> list[float]:
    """How far, in points, the marks of each series stand beside their x: only where intervals of
    several would hide one another.
    """
    places = [x for one in marked for x in set(one.x)]
    if len(set(places)) == len(places) or not any(one.low for one in marked):
        return [0.0] * len(marked)
    middle = (len(marked) - 1) / 2
    step = min(_SIDE_PT, _SIDES_PT / (2 * middle))
    return [(place - middle) * step for place in range(len(marked))]


def _style(one: Series) -> dict[str, Any]:
    return {
        "color": PALETTE[one.colour % len(PALETTE)],
        "linestyle": DASHES[one.colour % len(DASHES)],
        "linewidth": 1.5,
    }


def _marker(one: Series) -> dict[str, Any]:
    return {
        "marker": MARKERS[one.colour % len(MARKERS)],
        "markersize": MARKER_PT[one.colour % len(MARKERS)],
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }


def _series(axes: Any, one: Series, side_pt: float) -> None:
    """Draw a series; its marks stand `side_pt` points to the right of their x."""
    from matplotlib.transforms import ScaledTranslation

    style = _style(one)
    if one.kind == "fit":
        if one.low:
            axes.fill_between(
                one.x, one.low, one.high, color=style["color"], alpha=0.13, linewidth=0, zorder=1
            )
        axes.plot(one.x, one.y, **style, zorder=2)
        return
    moved = axes.transData + ScaledTranslation(side_pt / 72, 0, axes.figure.dpi_scale_trans)
    if one.low:
        ends = [
            (x, low, high)
            for x, low, high in zip(one.x, one.low, one.high, strict=True)
            if math.isfinite(low) and math.isfinite(high)
        ]
        axes.vlines(
            [x for x, _, _ in ends],
            [low for _, low, _ in ends],
            [high for _, _, high in ends],
            color=style["color"],
            linewidth=1.1,
            alpha=0.75,
            transform=moved,
            zorder=3,
        )
    if one.kind == "marks":
        style["linestyle"] = "none"
    axes.plot(one.x, one.y, **style, **_marker(one), transform=moved, zorder=4)


def _look(axes: Any, figure: Figure) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, width=0.7)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(shown(figure.x_name), labelpad=4)


def _handles(series: Sequence[Series]) -> list[tuple[Any, str]]:
    """Entries of the legend; a fit is shown with the points of its colour."""
    from matplotlib.lines import Line2D

    fits = {one.colour for one in series if one.kind == "fit"}
    points = {one.colour for one in series if one.kind != "fit"}
    entries = []
    for one in series:
        if one.kind == "fit" and one.colour in points:
            continue
        style = _style(one)
        if one.kind == "marks" and one.colour not in fits:
            style["linestyle"] = "none"
        marker = {} if one.kind == "fit" else _marker(one)
        entries.append((Line2D([], [], **style, **marker), textwrap.fill(shown(one.name), 34)))
    return entries


def _arrange(drawing: Any, axes: Any, figure: Figure, handles: Sequence[tuple[Any, str]]) -> None:
    """Title, legend and name of y from the top, all to the left; the plot takes what is left."""
    inch, renderer = drawing.dpi, drawing.canvas.get_renderer()
    title = balanced(shown(figure.title), 58)
    heading = drawing.text(0, 0, title, fontsize=10.5, fontweight="bold", va="top")
    legend_at = EDGE + heading.get_window_extent(renderer).height / inch + _GAP  # from the top
    name_at = legend_at
    legend = _legend(drawing, handles) if len(handles) > 1 else None
    if legend is not None:
        name_at += legend.get_window_extent(renderer).height / inch + _GAP
    plot_at = name_at + 0.25
    height = plot_at + PLOT
    drawing.set_size_inches(WIDTH, height)
    left = EDGE / WIDTH
    heading.set_position((left, 1 - EDGE / height))
    if legend is not None:
        legend.set_bbox_to_anchor((left, 1 - legend_at / height), transform=drawing.transFigure)
    drawing.text(left, 1 - name_at / height, shown(figure.y_name), color=MUTED, va="top")
    axes.set_position((0.1, 0.1, 0.8, 0.5))
    drawing.draw_without_rendering()  # now the tick labels have their sizes
    box, tight = axes.get_window_extent(renderer), axes.get_tightbbox(renderer)
    left = EDGE + (box.x0 - tight.x0) / inch
    bottom = EDGE + (box.y0 - tight.y0) / inch
    right = WIDTH - max(EDGE, (tight.x1 - box.x1) / inch + 0.04)
    axes.set_position(
        (left / WIDTH, bottom / height, (right - left) / WIDTH, 1 - (plot_at + bottom) / height)
    )


def _legend(drawing: Any, handles: Sequence[tuple[Any, str]]) -> Any:
    """A legend of as many columns as the width allows."""
    has_lines = any(line.get_linestyle() != "None" for line, _ in handles)
    columns = min(len(handles), 5)
    while True:
        legend = drawing.legend(
            [line for line, _ in handles],
            [name for _, name in handles],
            loc="upper left",
            ncols=columns,
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            handlelength=2.6 if has_lines else 1.0,
            columnspacing=1.6,
            labelspacing=0.35,
        )
        width = legend.get_window_extent(drawing.canvas.get_renderer()).width / drawing.dpi
        if columns == 1 or width < WIDTH - 2 * EDGE:
            return legend
        legend.remove()
        columns -= 1

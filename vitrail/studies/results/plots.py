"""Figures as files: KEY.png for a screen, KEY.svg for paper and page."""

from __future__ import annotations

from pathlib import Path

from vitrail.figures.plot import Figure, alt_text, plot
from vitrail.figures.raster import png
from vitrail.files import write_together
from vitrail.spelling import printable


def draw(figure: Figure, folder: Path) -> tuple[Path, Path]:
    """Write KEY.png and KEY.svg into `folder`, which is made; returns their paths.

    Raises EnvironmentFault VIT-506 where they cannot be written.
    """
    drawing = plot(figure)
    told = {"Title": printable(figure.title), "Description": alt_text(figure)}
    files: dict[str, bytes | str] = {
        f"{figure.key}.png": png(drawing, told),
        f"{figure.key}.svg": drawing.file(),
    }
    raster, vector = write_together(folder, files, replace=True)
    return raster, vector

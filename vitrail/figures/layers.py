"""A number of every head of a model over its layers, of one model or of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.figures.plot import Figure, Series

NAME_LENGTH = 30  # characters of a model's name in a legend; the end of a path says most


def layer_figure(
    found: Sequence[tuple[str, NDArray[np.float64]]],
    title: str,
    y_name: str,
    level: tuple[str, float] | None = None,
) -> Figure:
    """Values (L, heads) of each model by name, a dot a head, their mean as a line. A model of fewer
    layers is stretched to the depth of the deepest. level: a dashed line with its name.
    """
    depth = max(len(values) for _, values in found)
    series = []
    for colour, (name, values) in enumerate(found):
        layers = (np.arange(len(values)) + 0.5) * depth / len(values) - 0.5
        places, means = layers.repeat(values.shape[1]).tolist(), values.mean(axis=1).tolist()
        series.append(
            Series(shortened(name), places, values.ravel().tolist(), kind="dots", colour=colour)
        )
        if len(found) == 1:
            series.append(Series("mean", layers.tolist(), means, kind="curve", colour=1))
        else:
            series.append(Series(name, layers.tolist(), means, kind="fit", colour=colour))
    is_mixed = len({len(values) for _, values in found}) > 1
    x_name = "layer of the deeper model; the other is stretched" if is_mixed else "layer"
    return Figure("layers", title, x_name, y_name, series, level=level, zero="always")


def shortened(name: str) -> str:
    """A name of at most 30 characters: its end."""
    return name if len(name) <= NAME_LENGTH else "..." + name[3 - NAME_LENGTH :]

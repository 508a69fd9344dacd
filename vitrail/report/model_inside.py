"""How the model sees: the reach of its attention, its filters, and its position embeddings.

Figures 7 and 11 of arXiv 2010.11929; how each is computed: `vitrail/explain/`.
"""

from __future__ import annotations

import numpy as np

from vitrail.explain.inspect.distance import Reach
from vitrail.figures.layers import layer_figure
from vitrail.figures.plot import plot
from vitrail.figures.tiles import tile_sheet
from vitrail.report.explanations import ModelExplanations, Positions
from vitrail.report.frame import Drawing, PageSection, Table, number
from vitrail.report.run_images import RunImages, png_uri

PICTURES = 64  # that attention is averaged over


def inside_section(inside: ModelExplanations, images: RunImages, split: str) -> list[PageSection]:
    """The section; nothing where there is nothing to show."""
    drawings, numbers, lead = [], None, ""
    reach = inside.reach(images.some(split, PICTURES)) if inside.has_attention else None
    if reach is not None:
        level = (f"uniform {reach.most:.2f}", reach.most)
        for title, values, most in (
            ("Mean attention distance (px)", reach.renormalised, None),
            ("Entropy of attention (nats)", reach.entropy, level),
        ):
            figure = layer_figure([("heads", values)], title, title, most)
            drawings.append(Drawing(title, plot(figure, is_bare=True)))
        numbers = _reach_table(reach)
        lead = f"One dot per attention head, over {reach.num} {split} images. "
        lead += "High dots in early layers are heads with global attention."
    tiles, share = inside.filters()
    found = inside.positions()
    told = {
        "drawings": drawings,
        "numbers": numbers,
        "filters": [png_uri(tile) for tile in tiles],
        "share": share,
        "positions": "" if found is None else png_uri(tile_sheet(found.tiles, found.columns)),
        "structure": "" if found is None else _structure(found),
    }
    return [PageSection("inside", "Inside the model", told, lead)]


def _structure(found: Positions) -> str:
    words = (
        "One tile per patch: brighter means a more similar position embedding (cosine "
        f"{found.lowest:.2f} to 1)."
    )
    both = found.explained["explained_2d"], found.explained["explained_1d"]
    if np.isfinite(both).all():
        words += (
            f" Distance in the plane explains {100 * both[0]:.0f} % of it, distance in reading "
            f"order {100 * both[1]:.0f} %."
        )
    return words


def _reach_table(reach: Reach) -> Table:
    rows = []
    for layer, head in np.ndindex(reach.entropy.shape):
        values = reach.renormalised[layer, head], reach.plain[layer, head]
        rows.append(
            [
                number(layer),
                number(head),
                *(number(float(one), 2) for one in values),
                number(float(reach.entropy[layer, head]), 3),
            ]
        )
    columns = ["layer", "head", "distance (px)", "with prefix tokens (px)", "entropy (nats)"]
    return Table(columns, rows, is_sortable=True)

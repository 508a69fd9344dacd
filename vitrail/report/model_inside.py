"""How the model sees: the reach of its attention, its filters, and its position embeddings.

Figures 7 and 11 of arXiv 2010.11929; how each is computed: `vitrail/explain/`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.explain.inspect.distance import Reach
from vitrail.report.explanations import ModelExplanations, Positions
from vitrail.report.figures import dots, figure
from vitrail.report.frame import TableCell, details, number, section, table, text
from vitrail.report.run_images import Pixels, RunImages, png_uri

PICTURES = 64  # that attention is averaged over


def inside_section(inside: ModelExplanations, pictures: RunImages, split: str) -> list[str]:
    """The section; nothing where there is nothing to show."""
    drawn, below = [], ""
    reach = inside.reach(pictures.some(split, PICTURES)) if inside.has_attention else None
    if reach is not None:
        title = "Mean attention distance (px)"
        drawn.append(figure(title, dots(reach.renormalised, title=title)))
        title = "Entropy of attention (nats)"
        level = (f"uniform {reach.most:.2f}", reach.most)
        drawn.append(figure(title, dots(reach.entropy, title=title, level=level)))
        below = details("The same as numbers", _reach_table(reach))
    tiles, share = inside.filters()
    caption = f"First {len(tiles)} components of the patch filters"
    drawn.append(figure(caption, _filters(tiles, share)))
    positions = inside.positions()
    if positions is not None:
        sheet = tile_sheet(positions.tiles, positions.columns)
        words = "Similarity of position embeddings"
        image = f'<img class="sheet" alt="{words}" src="{png_uri(sheet)}">'
        drawn.append(figure(words, image, below=_structure(positions)))
    said = f"A dot is a head, over {reach.num} {split} pictures. " if reach else ""
    lead = f"{said}Low layers with dots far up look at the whole picture at once."
    grid = f'<div class="grid halves">{"".join(drawn)}</div>'
    return [section("inside", "Inside the model", grid, below, lead=text(lead if said else ""))]


def _filters(tiles: Sequence[Pixels], share: float) -> str:
    images = "".join(
        f'<img alt="component {number}" src="{png_uri(tile)}">'
        for number, tile in enumerate(tiles, 1)
    )
    words = f"{100 * share:.0f} % of the variance of the first layer's kernels."
    return f'<div class="tiles">{images}</div><p class="note">{text(words)}</p>'


def _structure(found: Positions) -> str:
    words = (
        "A tile a patch: the brighter, the more alike is the position of another patch (cosine "
        f"{found.lowest:.2f} to 1)."
    )
    both = found.explained["explained_2d"], found.explained["explained_1d"]
    if np.isfinite(both).all():
        words += (
            f" Distance in the plane explains {100 * both[0]:.0f} % of it, distance in reading "
            f"order {100 * both[1]:.0f} %."
        )
    return f'<p class="note">{text(words)}</p>'


def _reach_table(reach: Reach) -> str:
    rows: list[list[TableCell | str]] = []
    for layer, head in np.ndindex(reach.entropy.shape):
        values = reach.renormalised[layer, head], reach.plain[layer, head]
        rows.append([number(layer), number(head), *(number(float(one), 2) for one in values),
                     number(float(reach.entropy[layer, head]), 3)])  # fmt: skip
    columns = ["layer", "head", "distance (px)", "with prefix tokens (px)", "entropy (nats)"]
    return table(columns, rows, sortable=True)


def tile_sheet(tiles: Sequence[Pixels], columns: int) -> NDArray[np.uint8]:
    """Tiles uint8 (h, w, 3) as one picture (H, W, 4), transparent between them."""
    h, w = tiles[0].shape[:2]
    gap = max(1, min(h, w) // 8)
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, 4), np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (h + gap), place % columns * (w + gap)
        sheet[top : top + h, left : left + w, :3] = tile
        sheet[top : top + h, left : left + w, 3] = 255
    return sheet

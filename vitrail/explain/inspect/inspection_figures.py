"""The inspection figures of one model, or of two side by side, each with its numbers as CSV.

Figures 7, 10 and 11 of arXiv 2010.11929 and linear CKA. A figure that a model cannot have is left
out, and a note says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from vitrail.explain.inspect import distance, filters, positions, similarity
from vitrail.figures.layers import layer_figure
from vitrail.figures.plot import Figure, plot
from vitrail.figures.tiles import Panel, colour_tiles, evenly, heat_tiles, sheet
from vitrail.files import whole_file, write_csv, write_whole
from vitrail.models.create import Model, ResidualNet
from vitrail.notebook import Shown
from vitrail.spelling import count

NEAREST_SHOWN = 16  # rows and columns of the grid of position similarities that are drawn at most


@dataclass(frozen=True, eq=False)
class Inspected:
    """A model, its name for people, and the images it is shown: `batches()` gives (B, C, H, W),
    preprocessed, and is called more than once; None without images.
    """

    name: str
    model: Model
    batches: Callable[[], Iterable[Tensor]] | None = None


@dataclass
class FigureFiles(Shown):
    """Files that were written, and notes about figures that a model cannot have, in order."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        files = [("file", str(path)) for path in self.files]
        return [*files, *(("note", note) for note in self.notes)]


def write_figures(models: Sequence[Inspected], out: Path) -> FigureFiles:
    """models: one or two, on the same images. out: a folder that is there."""
    done = FigureFiles()
    _filters(models, out, done)
    _positions(models, out, done)
    if any(one.batches is None for one in models):
        done.notes.append(
            "attention distance, entropy and CKA need images; none were given (--data)"
        )
        return done
    _reach(models, out, done)
    _similarity(models, out, done)
    return done


def _filters(models: Sequence[Inspected], out: Path, done: FigureFiles) -> None:
    panels, rows = [], list[list[object]]()
    for one in models:
        found = filters.principal_components(one.model)
        panels.append(Panel(one.name, colour_tiles(found.patches), 7))
        for number, (patch, share) in enumerate(zip(found.patches, found.shares, strict=True)):
            rows += [
                [one.name, number, f"{share:.6g}", *place, f"{patch[place]:.6g}"]
                for place in np.ndindex(patch.shape)
            ]
    note = "Principal components of the first layer's kernels"
    _save(out, "filters", done, sheet(panels, note=note))
    head = ["model", "component", "share_of_variance", "row", "column", "channel", "value"]
    _table(out, "filters", done, head, rows)


def _positions(models: Sequence[Inspected], out: Path, done: FigureFiles) -> None:
    panels, rows, facts = [], list[list[object]](), list[str]()
    for one in models:
        why = positions.why_none(one.model)
        if isinstance(one.model, ResidualNet) or why:
            done.notes.append(f"{one.name}: no position similarity: {why}")
            continue
        grid = one.model.config.grid
        cosines = positions.similarities(positions.position_table(one.model))  # (P, P)
        order = positions.structure(cosines, grid)
        down, across = (evenly(side, NEAREST_SHOWN) for side in grid)
        shown = [row * grid[1] + column for row in down for column in across]
        tiles = heat_tiles(cosines[shown].reshape(-1, *grid), -1, 1)
        panels.append(Panel(one.name, tiles, len(across)))
        facts.append(
            f"{one.name}: explained by 2-D distance {order['explained_2d']:.2f}, "
            f"by 1-D distance {order['explained_1d']:.2f}"
        )
        for place, line in enumerate(cosines):
            row, column = divmod(place, grid[1])
            rows += [
                [one.name, row, column, *divmod(other, grid[1]), f"{value:.5f}"]
                for other, value in enumerate(line)
            ]
    if not panels:
        return
    note = "Cosine of position embeddings, -1 (dark) to 1.  " + ";  ".join(facts)
    _save(out, "positions", done, sheet(panels, note=note))
    head = ["model", "row", "column", "other_row", "other_column", "cosine"]
    _table(out, "positions", done, head, rows)
    done.notes += facts


def _reach(models: Sequence[Inspected], out: Path, done: FigureFiles) -> None:
    found: list[tuple[str, distance.Reach]] = []
    for one in models:
        if isinstance(one.model, ResidualNet):
            done.notes.append(
                f"{one.name}: no attention distance: a residual network has no attention"
            )
        else:
            found.append((one.name, distance.reach(one.model, _batches(one))))
    if not found:
        return
    num = found[0][1].num
    distances = [(name, reach.renormalised) for name, reach in found]
    title = f"Mean attention distance, {count(num, 'image')}, a mark a head"
    _layers(out / "distance.svg", done, layer_figure(distances, title, "pixels (among patches)"))
    entropies = [(name, reach.entropy) for name, reach in found]
    title = f"Entropy of attention, {count(num, 'image')}, a mark a head"
    most = ("uniform", max(reach.most for _, reach in found))
    _layers(out / "entropy.svg", done, layer_figure(entropies, title, "nats", most))
    rows = [
        [name, layer, head, reach.renormalised[layer, head], reach.plain[layer, head]]
        + [reach.entropy[layer, head], reach.num]
        for name, reach in found
        for layer, head in np.ndindex(reach.entropy.shape)
    ]
    head_row = ["model", "layer", "head", "distance_px", "distance_px_not_renormalised"]
    _table(out, "attention", done, [*head_row, "entropy_nats", "pictures"], rows)


def _similarity(models: Sequence[Inspected], out: Path, done: FigureFiles) -> None:
    layers = [similarity.representations(one.model, _batches(one)) for one in models]
    num = len(next(iter(layers[0].values())))
    if num < similarity.LEAST:
        done.notes.append(f"CKA needs {count(similarity.LEAST, 'image')}, got {num}")
        return
    panels, rows = [], list[list[object]]()
    for first, second in _pairs(len(models)):
        a, b = layers[first], layers[second]
        table, biased = (
            similarity.cka_table(list(a.values()), list(b.values()), unbiased=unbiased)
            for unbiased in (True, False)
        )
        title = f"{models[first].name} (down), {models[second].name} (across)"
        title = models[first].name if first == second else title
        panels.append(Panel(title, [tile_of(table)], 1))
        rows += [
            [models[first].name, x, models[second].name, y, table[i, j], biased[i, j], num]
            for i, x in enumerate(a)
            for j, y in enumerate(b)
        ]
    note = f"Linear CKA of layers, first to last, 0 (dark) to 1, {count(num, 'image')}"
    _save(out, "cka", done, sheet(panels, note=note, tile_px=280))
    head = ["model", "layer", "other_model", "other_layer", "cka", "cka_biased", "pictures"]
    _table(out, "cka", done, head, rows)


def tile_of(table: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Values from 0 to 1 as one tile."""
    return heat_tiles(table[None], 0, 1)[0]


def _batches(one: Inspected) -> Iterable[Tensor]:
    return () if one.batches is None else one.batches()


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Each model with itself, then the first with the second."""
    yield from ((number, number) for number in range(count))
    if count == 2:
        yield 0, 1


def _save(out: Path, name: str, done: FigureFiles, image: Image) -> None:
    path = out / f"{name}.png"
    with whole_file(path, replace=True) as temporary, temporary.open("wb") as stream:
        image.save(stream, "PNG")
    done.files.append(path)


def _layers(path: Path, done: FigureFiles, figure: Figure) -> None:
    done.files.append(write_whole(path, plot(figure).file(), replace=True))


def _table(
    out: Path, name: str, done: FigureFiles, head: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    done.files.append(write_csv(out / f"{name}.csv", head, rows, replace=True))

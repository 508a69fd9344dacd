"""How faithful a map is to the model: deletion, insertion, and the pointing game.

Deletion and insertion (RISE, arXiv 1806.07421): cells of the image are covered with
the mean colour from the most important one on, or uncovered on a covered image; the curve is the
probability of the class, the figure the area under it. A faithful map has a small deletion and a
large insertion area. Cells are the patches (`pixels.cells_of`), so that every method is judged in
the same units; cells of equal value come in an order drawn by chance, so that a constant map is
chance.

Pointing game (arXiv 1608.00507): the centre of the most important cell is inside the object or not.
Beside it the share of the map's mass (values below 0 count as 0) inside the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.device import sent
from vitrail.explain.methods.maps import Array, Request, Scores, cell_edges, log_scores
from vitrail.explain.methods.pixels import BATCH, cell_boxes, cells_of, seen_size
from vitrail.explain.methods.registry import METHODS, checked, explain, methods_of
from vitrail.explain.methods.walk import evaluating
from vitrail.explain.placing import resized
from vitrail.keyed_random import uniforms
from vitrail.models.create import Model

MAX_STEPS = 50  # forward passes of a curve; more cells than that go several at a time


@dataclass(frozen=True, eq=False)
class Curves:
    """Probability of the class while cells go and come: `shares` of the cells, 0 to 1, (S,);
    `deletion` and `insertion` (S,); areas under them by the trapezoidal rule.
    """

    shares: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def deletion_area(self) -> float:
        """Small is faithful."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """Large is faithful."""
        return float(np.trapezoid(self.insertion, self.shares))


def by_cell(grid: Array, cells: tuple[int, int]) -> Array:
    """A map in the units that all methods are judged in: the mean inside each cell."""
    return resized(np.asarray(grid, np.float64), cells)


def ranking(values: Array, seed: int = 0) -> NDArray[np.int64]:
    """Cells from the most important one on, (cells,); ties in an order drawn by chance."""
    flat = np.asarray(values).reshape(-1)
    ties = uniforms(seed, "explain ties", 0, np.arange(1), flat.size)[0]
    return np.lexsort((ties, -flat))


def curves(
    model: Model,
    images: Tensor,
    grid: Array,
    target: int,
    *,
    scores: Scores = "softmax",
    seed: int = 0,
) -> Curves:
    """images: (1, C, H, W), preprocessed; grid: a map of any size; target: the class."""
    cells = cells_of(model)
    rows, columns = seen_size(model)
    is_by_pixel = grid.shape == tuple(images.shape[2:])
    order = ranking(by_cell(grid[:rows, :columns] if is_by_pixel else grid, cells), seed)
    boxes = cell_boxes((rows, columns), cells)
    counts = np.unique(np.linspace(0, len(boxes), min(len(boxes), MAX_STEPS) + 1).round()).astype(
        int
    )
    states = torch.stack([covering(images.shape[2:], boxes, order[:count]) for count in counts])
    states = sent(states, images.device)[:, None]  # (S, 1, H, W), True: covered
    found = []
    with evaluating(model):
        for is_covered in (states, ~states):
            parts = [
                log_scores(model(images * ~part), scores)[:, target].exp()
                for part in torch.split(is_covered, BATCH)
            ]
            found.append(torch.cat(parts).double().cpu().numpy())
    return Curves(counts / len(boxes), found[0], found[1])


def covering(
    size: Sequence[int], boxes: Sequence[tuple[int, int, int, int]], cells: NDArray[np.int64]
) -> Tensor:
    """Where these cells are, bool (H, W)."""
    mask = torch.zeros(size[0], size[1], dtype=torch.bool)
    for cell in cells:
        top, bottom, left, right = boxes[int(cell)]
        mask[top:bottom, left:right] = True
    return mask


def points_at(values: Array, mask: NDArray[np.bool_], seed: int = 0) -> bool:
    """Whether the centre of the most important cell is inside the object. values: (rows, columns);
    mask: (H, W).
    """
    row, column = divmod(int(ranking(values, seed)[0]), values.shape[1])
    y, x = cell_edges(mask.shape[0], values.shape[0]), cell_edges(mask.shape[1], values.shape[1])
    return bool(mask[(y[row] + y[row + 1]) // 2, (x[column] + x[column + 1]) // 2])


def mass_inside(grid: Array, mask: NDArray[np.bool_]) -> float:
    """Share of the map's positive mass inside the object; of the area where it has no mass."""
    values = np.clip(resized(np.asarray(grid, np.float64), mask.shape), 0, None)
    total = values.sum()
    return float(values[mask].sum() / total) if total else float(mask.mean())


@dataclass(frozen=True, eq=False)
class MethodCurves:
    """What one method reaches, a value an image, (n,): areas, and where masks are given whether it
    points inside the object (0 or 1) and how much of its mass is there. curves: the mean ones.
    """

    method: str
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    curves: Curves
    hits: NDArray[np.float64] | None = None
    mass: NDArray[np.float64] | None = None


def judge(
    model: Model,
    images: Tensor,
    *,
    methods: Sequence[str] = (),
    targets: Sequence[int] | None = None,
    masks: NDArray[np.bool_] | None = None,
    scores: Scores = "softmax",
    seed: int = 0,
) -> list[MethodCurves]:
    """Every method on the same images; random is always among them, and last.

    images: (n, C, H, W), preprocessed. methods: those that the model has unless given. targets:
    the classes to explain, the first choices unless given. masks: (n, H, W), the objects, at the
    size of the images. Raises UsageError VIT-270 to VIT-276.
    """
    no_maps = ("random", "merging")  # which say nothing of what an answer rests on
    names = [name for name in methods or methods_of(model) if name not in no_maps]
    if targets is None:
        with evaluating(model):
            targets = [int(model(image[None])[0].argmax()) for image in images]
    for target in set(targets):  # raises for a model without classes, and for a class beyond them
        checked(model, Request("occlusion", target=target))
    return [
        _judge(model, images, name, targets, masks, scores, seed) for name in [*names, "random"]
    ]


def _judge(
    model: Model,
    images: Tensor,
    method: str,
    targets: Sequence[int],
    masks: NDArray[np.bool_] | None,
    scores: Scores,
    seed: int,
) -> MethodCurves:
    cells = cells_of(model)
    found: list[Curves] = []
    hits, mass = list[float](), list[float]()
    for place, (image, target) in enumerate(zip(images, targets, strict=True)):
        key = seed + place  # another draw for every image
        grid = explain(model, image[None], request_of(method, target, scores, key)).grid
        found.append(curves(model, image[None], grid, target, scores=scores, seed=key))
        if masks is not None:
            hits.append(float(points_at(by_cell(grid, cells), masks[place], key)))
            mass.append(mass_inside(grid, masks[place]))
    return MethodCurves(
        method,
        np.array([one.deletion_area for one in found]),
        np.array([one.insertion_area for one in found]),
        Curves(
            found[0].shares,
            np.mean([one.deletion for one in found], axis=0),
            np.mean([one.insertion for one in found], axis=0),
        ),
        None if masks is None else np.array(hits),
        None if masks is None else np.array(mass),
    )


def request_of(method: str, target: int, scores: Scores, seed: int) -> Request:
    """The request for one class with the options that the method takes."""
    if method == "random":
        return Request(method, seed=seed)
    is_of_class = method in METHODS and METHODS[method].has_target
    return Request(method, target=target if is_of_class else None, scores=scores)

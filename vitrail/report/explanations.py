"""The model of a report, asked why it answers and how it sees (`vitrail.explain`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import VitrailError
from vitrail.explain.image_input import explain_image, input_of
from vitrail.explain.inspect import distance, filters, positions
from vitrail.explain.methods.maps import Request, Scores
from vitrail.explain.methods.registry import default_method
from vitrail.figures.tiles import colour_tiles, evenly, heat_tiles
from vitrail.models.create import Model, ResidualNet
from vitrail.spelling import label_cell

Pixels = NDArray[np.uint8]
BATCH = 8
GRID = 12  # rows and columns of the grid of position similarities at most


@dataclass(frozen=True, eq=False)
class Positions:
    """tiles: for some patches in reading order, `columns` in a row, how similar the positions of
    all others are, uint8 (h, w, 3), from `lowest` to 1; shares of the variance that 2-D and 1-D
    distance explain.
    """

    tiles: list[Pixels]
    columns: int
    lowest: float
    explained: dict[str, float]


class ModelExplanations:
    """A model in evaluation; explanations end after `max_secs` in all."""

    def __init__(
        self,
        model: Model,
        preprocess: Preprocess,
        classes: Sequence[str],
        *,
        scores: Scores = "softmax",
        max_secs: float = 30.0,
    ) -> None:
        self.model, self.preprocess = model.eval(), preprocess
        self.method = default_method(model)
        self._places = {label_cell([name]): place for place, name in enumerate(classes)}
        self._scores, self._left_secs = scores, max_secs

    @property
    def has_attention(self) -> bool:
        """Whether there are heads whose reach can be measured."""
        return not isinstance(self.model, ResidualNet)

    def overlay(self, pixels: Pixels, name: str) -> Pixels | None:
        """The image with what spoke for the class `name`, as tables have it; None where that
        cannot be told or the time is over.
        """
        if self._left_secs <= 0 or name not in self._places:
            return None
        started = time.monotonic()
        request = Request(self.method, target=self._places[name], scores=self._scores)
        try:
            found, _ = explain_image(self.model, self.preprocess, pixels, request)
            return np.asarray(found.overlay().convert("RGB"))
        except VitrailError:
            return None
        finally:
            self._left_secs -= time.monotonic() - started

    def reach(self, images: Sequence[Pixels]) -> distance.Reach | None:
        """How far attention reaches on `pictures`, as many as the time allows."""
        if isinstance(self.model, ResidualNet) or not images:
            return None
        found = distance.reach(self.model, self._batches(images))
        return found if found.num else None

    def _batches(self, images: Sequence[Pixels]) -> Iterator[Tensor]:
        deadline = time.monotonic() + max(self._left_secs, 5.0)
        length = 1 if self.preprocess.is_variable else BATCH
        for start in range(0, len(images), length):
            if time.monotonic() > deadline:
                return
            own = [
                input_of(self.model, self.preprocess, one) for one in images[start : start + length]
            ]
            yield torch.cat(own)  # (B, C, H, W)

    def filters(self) -> tuple[list[Pixels], float]:
        """The first principal components of what touches the pixels, uint8 (h, w, 3) each, and the
        share of the variance that they hold together.
        """
        found = filters.principal_components(self.model)
        return colour_tiles(found.patches), float(found.shares.sum())

    def positions(self) -> Positions | None:
        """How similar position embeddings are, where there are any."""
        if isinstance(self.model, ResidualNet) or positions.why_none(self.model):
            return None
        grid = self.model.config.grid
        cosines = positions.similarities(positions.position_table(self.model))  # (P, P)
        rows, columns = (evenly(side, GRID) for side in grid)
        chosen = [row * grid[1] + column for row in rows for column in columns]
        lowest = min(float(cosines.min()), 0.99)
        tiles = heat_tiles(cosines[chosen].reshape(-1, *grid), lowest, 1)
        return Positions(tiles, len(columns), lowest, positions.structure(cosines, grid))

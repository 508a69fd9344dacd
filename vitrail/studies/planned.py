"""A study about to be computed: its cells, its folder, and the time they will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitrail.studies.budget import Paces, cell_secs, makespan, training_share
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.store import Store
from vitrail.studies.setup import Setup


@dataclass(frozen=True)
class Planned:
    """A study about to be computed. setup: with the number of examples that was planned."""

    study: Study
    setup: Setup
    store: Store
    cells: list[Cell]
    paces: Paces
    is_new: bool
    simple: Mapping[str, float] = field(default_factory=dict)  # top-1 of what learns nothing

    def seconds(self, processes: int) -> float:
        """Until all cells are computed, none being there."""
        return makespan((cell_secs(cell, self.paces) for cell in self.cells), processes)

    @property
    def training_share(self) -> float:
        """Of that time, what goes into training; the rest opens data and judges models."""
        return training_share(self.cells, self.paces)

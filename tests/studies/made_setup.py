"""A setup without images, rows without runs, and what the cells of every study must be like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell, needed
from vitrail.studies.engine.row import Row
from vitrail.studies.setup import Setup
from vitrail.training.plan.facts import Facts

EXAMPLES = 64_000
FACTS = Facts(12_000, "arrays", (28, 28), 1, (0.3,), (0.35,), (0.8, 0.79))
PHOTOGRAPHS = Facts(7_000, "files", (240, 300), 3, (0.5,) * 3, (0.2,) * 3, None, is_photos=True)
SEED_NOISE = (0.0, 0.004, -0.003)


def made_setup(study: Study, **changes: Any) -> Setup:
    """12,000 gray images of 28 px, as a study's own options leave them."""
    setup = Setup(
        data="/somewhere/pictures",
        name="pictures",
        fingerprint="0123456789abcdef",
        facts=FACTS,
        num_classes=10,
        num_held_out=2_000,
        examples=EXAMPLES,
        sizes=(190, 750, 3_000, 12_000) if study.has_sizes else (),
        choices=dict(study.choices),
    )
    return replace(setup, **changes)


def made_rows(
    cells: Sequence[Cell],
    values: Callable[[Cell], Mapping[str, float]],
    cost: Callable[[Cell], Mapping[str, float]] = lambda cell: {"seconds": 1.0},
) -> list[Row]:
    """A row of each cell and of those it starts from."""
    return [
        Row(
            key=cell.key("f"),
            study="made",
            arm=cell.arm,
            axes=cell.axes,
            seed=cell.seed,
            values=values(cell),
            cost=cost(cell),
            run="",
            made={},
        )
        for cell in needed(list(cells))
    ]


def check_cells(study: Study, setup: Setup) -> list[Cell]:
    """Keys differ, seeds have alike cells, and `examples` are in proportion to the setup's."""
    cells = study.cells(setup)
    keys = [cell.key(setup.fingerprint) for cell in cells]
    assert len(set(keys)) == len(cells)
    assert len({cell.title for cell in cells}) == len(cells)
    per_seed = {
        seed: [(cell.arm, dict(cell.axes)) for cell in cells if cell.seed == seed]
        for seed in setup.seeds
    }
    assert all(found == per_seed[setup.seeds[0]] for found in per_seed.values())
    more = study.cells(replace(setup, examples=10 * setup.examples))
    for one, ten in zip(cells, more, strict=True):
        assert abs(ten.settings["examples"] / one.settings["examples"] - 10) < 0.1, one.title
        assert {**ten.settings, "examples": 0} == {**one.settings, "examples": 0}
    for cell in cells:
        cell.config()
        cell.pace_cell().config()
    return cells

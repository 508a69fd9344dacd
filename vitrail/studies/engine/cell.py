"""A cell: one training run of a study, and the key of everything that decides it.

No torch here: declaring a study, `--dry-run` and checking its cells take milliseconds each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vitrail.config import TrainConfig, config_hash, flatten
from vitrail.recipes.registry import recipe
from vitrail.settings.layers import resolve
from vitrail.studies.engine.row import Axis

SCHEMA = 1  # of a key; a change makes every kept row a stranger

WORDS = {"pictures": "images"}  # axes of rows that people know by another name


@dataclass(frozen=True)
class Cell:
    """One run: a recipe, what differs from it, a seed.

    arm and axes place its row in the figure (`row.py`). settings: flat dotted keys. start: the cell
    whose weights it begins with. measures: what is asked of the finished model beside its accuracy
    (`measures.py`). on_transfer: trained on the other data of the study.
    """

    arm: str
    axes: Mapping[str, Axis]
    settings: Mapping[str, Any]
    seed: int
    recipe: str = "small.scratch"
    start: Cell | None = None
    measures: tuple[str, ...] = ()
    on_transfer: bool = False

    def config(self) -> TrainConfig:
        """Every setting, as far as it is known without the data. Raises UsageError."""
        layers = [
            (f"recipe {self.recipe}", flatten(recipe(self.recipe))),
            (self.title, {**self.settings, "seed": self.seed}),
        ]
        return resolve(layers)[0]

    def key(self, fingerprint: str) -> str:
        """16 hex digits that change with any setting, the images, or the cell it starts from; not
        with the place of the images.
        """
        config = self.config()
        nowhere = config.model_copy(update={"data": config.data.model_copy(update={"path": ""})})
        facts = [
            SCHEMA,
            self.recipe,
            config_hash(nowhere),
            fingerprint,
            self.on_transfer,
            self.start.key(fingerprint) if self.start is not None else "",
            list(self.measures),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """For people: "ViT, images 1000, seed 0"."""
        axes = [f"{WORDS.get(key, key)} {short(one)}" for key, one in self.axes.items()]
        return ", ".join([self.arm, *axes, f"seed {self.seed}"])

    def pace_cell(self) -> Cell:
        """A cell that starts from nothing, whose steps take as long as those of this one."""
        if self.start is None:
            return self
        given = self.start.pace_cell()
        model = {key: value for key, value in given.settings.items() if key.startswith("model.")}
        own = {key: value for key, value in self.settings.items() if not key.startswith("start.")}
        return replace(self, settings={**model, **own}, recipe=given.recipe, start=None)

    def pace_key(self) -> str:
        """Equal for cells whose steps take equally long."""
        config = self.pace_cell().config()
        flat = {
            key: value
            for key, value in flatten(config).items()
            if key not in ("seed", "examples", "data.train_pictures", "recipe")
            and not key.startswith(("optim.", "schedule.", "start."))
        }
        return hashlib.sha256(
            json.dumps([flat, config.optim.name], sort_keys=True, default=str).encode()
        ).hexdigest()[:16]


def short(value: Axis) -> str:
    """A number of few digits, or a text as it is."""
    return value if isinstance(value, str) else f"{value:g}"


def needed(cells: list[Cell]) -> list[Cell]:
    """`cells` and every cell that one of them starts from, these first, each once."""
    found: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.start is not None:
            add(cell.start)
        found.setdefault(cell.key(""), cell)

    for cell in cells:
        add(cell)
    return list(found.values())

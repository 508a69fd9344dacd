"""How long cells will take, and how much training a budget buys.

The pace of every kind of model is measured once, on as many workers at a time as the study will
have, and kept in study.json: whoever goes on with a study follows the plan that was made.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vitrail.errors import UsageError
from vitrail.spelling import count
from vitrail.studies.engine.cell import Cell, needed

FINISH_SECS = 1.0  # to save a model, and the like
KEPT_BACK = 0.08  # share of a budget for what no plan foresees
LEAST_STEPS = 10  # of a cell
REFERENCE = 1_000_000  # examples at which the slope of the time is looked at


@dataclass(frozen=True)
class Pace:
    """Of one kind of run on one worker: seconds to open its data, of a training image, of a
    judged image; how many images are judged.
    """

    open_secs: float
    secs_per_example: float
    secs_per_judged: float
    judged: int
    peak_bytes: float = 0.0

    def seconds(self, examples: int) -> float:
        """Of a whole cell."""
        judging = self.judged * self.secs_per_judged
        return self.open_secs + self.training_secs(examples) + judging + FINISH_SECS

    def training_secs(self, examples: int) -> float:
        """Of a cell's time, what goes into training images."""
        return examples * self.secs_per_example


Paces = Mapping[str, Pace]


def paces_from(record: Mapping[str, Mapping[str, Any]]) -> dict[str, Pace]:
    """What study.json keeps."""
    return {key: Pace(**one) for key, one in record.items()}


def cell_secs(cell: Cell, paces: Paces) -> float:
    """What a cell will take."""
    return paces[cell.pace_key()].seconds(int(cell.settings["examples"]))


def training_share(cells: Iterable[Cell], paces: Paces) -> float:
    """Of the time of all cells, what goes into training images, 0 to 1."""
    whole = training = 0.0
    for cell in cells:
        pace, examples = paces[cell.pace_key()], int(cell.settings["examples"])
        whole += pace.seconds(examples)
        training += pace.training_secs(examples)
    return training / whole


def makespan(seconds: Iterable[float], processes: int) -> float:
    """Until the last of `processes` workers is done, each taking the next cell when it is free."""
    free = [0.0] * processes
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def examples_for(
    cells_at: Callable[[int], list[Cell]],
    paces: Paces,
    budget_secs: float,
    processes: int,
    spent_secs: float = 0.0,
) -> int:
    """The most examples whose cells end within `budget_secs`, of which some are spent.

    Raises UsageError VIT-291 where that is not enough for LEAST_STEPS of every cell.
    """
    allowed = (budget_secs - spent_secs) * (1 - KEPT_BACK)

    def lasts(examples: int) -> float:
        cells = needed(cells_at(examples))
        return makespan((cell_secs(cell, paces) for cell in cells), processes)

    least = _least(cells_at)
    if lasts(least) > allowed:
        raise _too_short(
            budget_secs, lasts(least) / (1 - KEPT_BACK) + spent_secs, len(needed(cells_at(least)))
        )
    low, high = 0, REFERENCE
    while lasts(high) <= allowed:
        low, high = high, 2 * high
    while high - low > max(64, low // 200):
        middle = (low + high) // 2
        low, high = (middle, high) if lasts(middle) <= allowed else (low, middle)
    return max(least, rounded_down(low))


def _too_short(budget_secs: float, needs_secs: float, num_cells: int) -> UsageError:
    minutes = math.ceil(1.1 * needs_secs / 60 + 0.5)  # the pace of a busy machine varies
    return UsageError(
        "VIT-291",
        f"a budget of {budget_secs:.0f} s is too short for {count(num_cells, 'cell')}; they need "
        f"{needs_secs:.0f} s at least.",
        hint=f"Use --budget {minutes}m, or fewer --seeds",
    )


def _least(cells_at: Callable[[int], list[Cell]]) -> int:
    """Examples of the reference at which every cell has LEAST_STEPS."""
    cells = cells_at(REFERENCE)
    worst = max(
        LEAST_STEPS * int(cell.settings["batch_size"]) / int(cell.settings["examples"])
        for cell in cells
    )
    return int(worst * REFERENCE) + 1


def rounded_down(value: int) -> int:
    """To three digits: a number that people can type."""
    unit: int = 10 ** max(0, len(str(value)) - 3)
    return value // unit * unit

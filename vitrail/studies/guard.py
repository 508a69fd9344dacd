"""No verdict without evidence: arms that guess, or that a look at the nearest training image beats,
say nothing about architectures.

A verdict stands where its best arm is clearly better than guessing and than the strongest baseline
that learns nothing, and where there are two such arms to compare. "Clearly": the lower end of
Wilson's 95 % interval of the judged images; each arm counts with its best setting. Otherwise the
answer says what is missing, and the figures stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vitrail.config import DataConfig
from vitrail.data.sources.open_data import open_as
from vitrail.evaluation.baselines import baselines
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.row import Row
from vitrail.studies.results.result import Outcome
from vitrail.studies.setup import Setup

BASELINE_SECS = 10.0
MORE = "More training may change that: a larger --budget, or more --examples."


@dataclass(frozen=True)
class Arm:
    """An arm at its best setting: mean top-1 over seeds, its interval on n judged images."""

    name: str
    top1: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.name} with {self.top1:.3f} ({self.low:.3f} to {self.high:.3f}, n = {self.n})"


def outside(study: Study, setup: Setup) -> dict[str, float]:
    """Top-1 of what learns nothing, by name, on the images that the verdict rests on, from as many
    training images as the largest cells have.
    """
    most = max(setup.sizes, default=setup.num_train)
    data = DataConfig(
        path=setup.data,
        split_seed=0 if setup.is_drawn else None,
        train_pictures=most if most < setup.num_train else None,
    )
    splits = open_as(data, 0)
    judged = splits.val if study.judged_by == "val/top1" else splits.test
    if judged is None:
        return {}
    return baselines(splits.train, judged, max_secs=BASELINE_SECS)


def guarded(
    outcome: Outcome,
    rows: Sequence[Row],
    value: str,
    num_classes: int,
    simple: Mapping[str, float],
) -> Outcome:
    """`outcome` as far as the rows support it. value: what its verdict rests on; simple: top-1 of
    what learns nothing, by name.
    """
    found = arms(rows, value)
    if not found:
        return outcome
    answer = _instead(found, num_classes, simple, outcome.verdict.answer)
    if answer is None:
        return outcome
    return replace(outcome, verdict=replace(outcome.verdict, answer=answer))


def arms(rows: Sequence[Row], value: str) -> list[Arm]:
    """The arms whose `value` was measured, best first; rows of fine-tuning on other data (axis
    "then") apart.
    """
    settings: dict[str, dict[object, list[Row]]] = {}
    for row in rows:
        if "then" not in row.axes and not math.isnan(row.values.get(value, math.nan)):
            place = tuple(sorted(row.axes.items()))
            settings.setdefault(row.arm, {}).setdefault(place, []).append(row)
    found = [
        max((_arm(name, own, value) for own in places.values()), key=lambda arm: arm.top1)
        for name, places in settings.items()
    ]
    return sorted(found, key=lambda arm: -arm.top1)


def _arm(name: str, rows: Sequence[Row], value: str) -> Arm:
    mean = math.fsum(row.values[value] for row in rows) / len(rows)
    n = int(rows[0].values.get(value.replace("top1", "n"), 0))
    return Arm(name, mean, *wilson(round(mean * n), n), n)


def _instead(
    found: Sequence[Arm], num_classes: int, simple: Mapping[str, float], answer: str
) -> str | None:
    """What is to be said instead of `answer`; None where it stands."""
    guess = max(1 / num_classes, simple.get("majority class", 0.0))
    good = [arm for arm in found if arm.low > guess]
    poor = [arm.name for arm in found if arm.low <= guess]
    level = f"the level of guessing ({guess:.3f})"
    if not good:
        return (
            f"Nothing can be said: no arm is clearly above {level}; the best is {found[0]}. {MORE}"
        )
    name, top1 = max(simple.items(), key=lambda item: item[1], default=("", 0.0))
    if good[0].low <= top1:
        return (
            f"Nothing can be said of these models: the best is {good[0]}, which is not clearly "
            f"better than {name} ({top1:.3f}), which learns nothing. {MORE}"
        )
    if len(good) == 1 and poor:
        return (
            f"Nothing can be said of a difference: only {good[0]} is above {level}, which is no "
            f"fair opponent for {', '.join(poor)}. {MORE}"
        )
    if poor:
        return f"Nothing can be said of {', '.join(poor)}, at {level}. {answer}"
    return None

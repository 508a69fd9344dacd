"""Which settings a search varies, and between what.

optim.lr=1e-4..1e-2           between two numbers, evenly on a logarithmic scale
augment.magnitude=0..12       one end is 0: evenly as they are
model.depth=4..12             whole numbers
augment.policy=none,randaugment
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitrail.config import SHORT, TrainConfig
from vitrail.errors import UsageError
from vitrail.settings.layers import DURATIONS
from vitrail.spelling import printable
from vitrail.studies.engine.row import Axis

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

AROUND = 8.0  # factor on either side of the rate that would be taken
DECAY_AROUND = 10.0
MOST_SMOOTHING = 0.2
LOG_FROM = 10.0  # ratio of the ends from which a scale is logarithmic
FIXED = (*DURATIONS, "seed", "recipe", "data.path", "out", "device", "threads")
EXAMPLE = "For instance --over optim.lr=1e-4..1e-2 or --over augment.policy=none,randaugment"


@dataclass(frozen=True)
class Range:
    """A setting and where its values lie: choices, or low to high."""

    name: str
    low: float = 0.0
    high: float = 0.0
    is_whole: bool = False
    choices: tuple[Axis, ...] = ()

    @property
    def is_log(self) -> bool:
        """Whether factors count, and not differences."""
        return self.low > 0 and self.high / self.low >= LOG_FROM

    @property
    def examples(self) -> tuple[Axis, ...]:
        """Values that show whether the setting takes such ones."""
        if self.choices:
            return self.choices
        ends = (self.low, self.high)
        return tuple(int(one) for one in ends) if self.is_whole else ends

    def to_json(self) -> dict[str, Any]:
        """What makes a search another one."""
        return {
            "name": self.name,
            "between": list(self.examples),
            "is_choice": bool(self.choices),
        }

    def distribution(self) -> BaseDistribution:
        """The range as Optuna has it."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.is_log)
        return FloatDistribution(self.low, self.high, log=self.is_log)


def ranges_of(texts: Sequence[str]) -> list[Range]:
    """The ranges that a user typed. Raises UsageError VIT-202."""
    found: dict[str, Range] = {}
    for text in texts:
        one = _range(text)
        if one.name in found:
            raise _wrong(text, f"{one.name} is given twice")
        found[one.name] = one
    return list(found.values())


def _range(text: str) -> Range:
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    name = SHORT.get(name, name)
    if not equals or not name or not values:
        raise _wrong(text, "expected SETTING=LOW..HIGH or SETTING=A,B,C")
    if name in FIXED:
        raise _wrong(text, f"{name} is the same in all trials")
    low, dots, high = values.partition("..")
    if not dots:
        choices = tuple(dict.fromkeys(_value(one.strip()) for one in values.split(",")))
        if len(choices) < 2:
            raise _wrong(text, "one value leaves nothing to choose from")
        return Range(name, choices=choices)
    ends = (_value(low), _value(high))
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in ends):
        raise _wrong(text, "both ends must be numbers")
    a, b = float(ends[0]), float(ends[1])
    if not a < b:
        raise _wrong(text, "the first number must be below the second")
    return Range(name, a, b, is_whole=all(isinstance(one, int) for one in ends))


def _value(text: str) -> Axis:
    """A whole number, a number, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def default_ranges(config: TrainConfig, given: Mapping[str, Any]) -> list[Range]:
    """Around what would be taken for these images: rate, decay of weights, label smoothing; not
    what the user has given. config: all settings, chosen.
    """
    rate, decay = float(config.optim.lr), config.optim.weight_decay
    found = [
        Range("optim.lr", _short(rate / AROUND), _short(rate * AROUND)),
        Range("optim.weight_decay", _short(decay / DECAY_AROUND), _short(decay * DECAY_AROUND)),
        Range("loss.label_smoothing", 0.0, MOST_SMOOTHING),
    ]
    return [one for one in found if one.high > one.low and one.name not in given]


def _short(value: float) -> float:
    return float(f"{value:.2g}")


def _wrong(text: str, why: str) -> UsageError:
    return UsageError("VIT-202", f"--over {printable(text)}: {why}.", hint=EXAMPLE)

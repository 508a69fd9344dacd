"""The learning rate of a step, and the plan that says how far through the run a step is.

Source: vision_transformer `utils.create_learning_rate_schedule` (cosine, linear) and big_vision's
function of the same name (polynomial, rsqrt, stair, cooldown); steps count from 1, so that the rate
0 of step 0 is never used. Differences: cosine accepts an absolute end as linear does (DeiT's
`min_lr`), a stair may begin at a share of the run (BiT-HyperRule: 0.3, 0.6, 0.9), and the cooldown
stops at 0 instead of going negative after the run.

The formulas take the share of the run that is done instead of step / total, because a run with a
time limit learns its length while it goes: `StepSchedule` keeps that share continuous and monotone
when the length is changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vitrail.config import ScheduleConfig
from vitrail.errors import UsageError
from vitrail.spelling import count


class Piece(NamedTuple):
    """From step `from_step`, where the share `progress` was done, the run is to last `total_steps`
    in all.
    """

    from_step: int
    progress: float
    total_steps: int


@dataclass(frozen=True)
class StepSchedule:
    """How far through the run each step is: straight pieces, each from where the one before was
    left to 1.
    """

    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, total_steps: int) -> StepSchedule:
        """The plan of a run whose length is known."""
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        return cls((Piece(0, 0.0, total_steps),))

    @property
    def total_steps(self) -> int:
        """The length of the run as planned now."""
        return self.pieces[-1].total_steps

    def progress(self, step: float) -> float:
        """Share of the run done after `step` steps, in [0, 1]."""
        piece = next((p for p in reversed(self.pieces) if p.from_step <= step), self.pieces[0])
        if step >= piece.total_steps:
            return 1.0
        share = (step - piece.from_step) / (piece.total_steps - piece.from_step)
        return min(1.0, max(0.0, piece.progress + (1.0 - piece.progress) * share))

    def step_at(self, progress: float) -> float:
        """The step (not rounded) at which the share `progress` is done; inverse of `progress`."""
        piece = next((p for p in reversed(self.pieces) if p.progress <= progress), self.pieces[0])
        if piece.progress >= 1.0:
            return float(piece.from_step)
        share = (progress - piece.progress) / (1.0 - piece.progress)
        return piece.from_step + share * (piece.total_steps - piece.from_step)

    def replan(self, step: int, total_steps: int) -> StepSchedule:
        """The same run, found after `step` steps to last `total_steps` in all."""
        last = self.pieces[-1]
        if not last.from_step <= step < total_steps:
            raise ValueError(
                f"cannot re-plan at step {step} to {count(total_steps, 'step')} (last piece "
                f"{tuple(last)})"
            )
        if total_steps == last.total_steps:
            return self
        kept = self.pieces if step > last.from_step else self.pieces[:-1]
        return StepSchedule((*kept, Piece(step, self.progress(step), total_steps)))

    def to_json(self) -> list[list[float]]:
        """Plain numbers: [from_step, progress, total_steps] of each piece."""
        return [list(piece) for piece in self.pieces]

    @classmethod
    def from_json(cls, pieces: Sequence[Sequence[float]]) -> StepSchedule:
        """The plan that `to_json` wrote, bit for bit."""
        return cls(tuple(Piece(int(a), float(b), int(c)) for a, b, c in pieces))


def check_schedule(config: ScheduleConfig, total_steps: int | None = None) -> None:
    """Refuse a schedule that cannot be followed. Raises UsageError VIT-243.

    total_steps: the length of the run where it is known, to compare a warm-up given in steps with
    it.
    """
    if config.name == "stair":
        _check_stairs(config)
    warmup = float(config.warmup)
    share = warmup if warmup <= 1 else warmup / total_steps if total_steps else 0.0
    if share + config.cooldown > 1:
        raise UsageError(
            "VIT-243",
            f"schedule.warmup {config.warmup:g} and schedule.cooldown {config.cooldown:g} "
            f"together are longer than the run"
            + (f" of {count(total_steps, 'step')}." if total_steps else "."),
            hint="Shorten the warm-up (--schedule.warmup 0.05 is a share of the run).",
        )


def _check_stairs(config: ScheduleConfig) -> None:
    places, factors = config.stair_at, config.stair_factors
    rising = all(a < b for a, b in zip(places, places[1:], strict=False))
    one_unit = all(place <= 1 for place in places) or all(place > 1 for place in places)
    if not places or len(places) != len(factors) or not rising or not one_unit or max(factors) > 1:
        raise UsageError(
            "VIT-243",
            f"schedule.stair_at {places} and schedule.stair_factors {factors}: expected as many "
            "factors (up to 1) as places, which rise and are all shares of the run or all steps.",
            hint="For instance --schedule.stair-at 0.3,0.6,0.9 "
            "--schedule.stair-factors 0.1,0.01,0.001",
        )


def lr_on(plan: StepSchedule, step: int, lr: float, config: ScheduleConfig) -> float:
    """The learning rate of `step` (counted from 1) in a run following `plan`; `lr` is the peak."""
    done = plan.progress(step)
    if config.warmup > 1:  # in steps
        warmup_steps, warmup_share = float(config.warmup), plan.progress(config.warmup)
        warm = min(1.0, step / warmup_steps)
    else:
        warmup_steps, warmup_share = plan.step_at(config.warmup), float(config.warmup)
        warm = min(1.0, done / warmup_share) if warmup_share else 1.0
    decayed = done - warmup_share
    p = min(1.0, max(0.0, decayed / (1.0 - warmup_share))) if warmup_share < 1 else 0.0
    end = config.end_lr
    if config.name == "cosine":
        rate = end + (lr - end) * 0.5 * (1.0 + math.cos(math.pi * p))
    elif config.name == "linear":
        rate = end + (lr - end) * (1.0 - p)
    elif config.name == "polynomial":
        rate = end + (lr - end) * (1.0 - p) ** config.power
    elif config.name == "rsqrt":
        rate = lr / math.sqrt(1.0 + max(0.0, step - warmup_steps) / config.timescale)
    elif config.name == "stair":
        begun = sum((step if place > 1 else done) >= place for place in config.stair_at)
        rate = lr * (1.0, *config.stair_factors)[begun]
    else:
        rate = lr
    cool = min(1.0, (1.0 - done) / config.cooldown) if config.cooldown else 1.0
    return rate * warm * cool

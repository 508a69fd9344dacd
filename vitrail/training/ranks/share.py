"""A step is made of K equal parts, which belong to the run; ranks only divide them.

The batch of B rows is cut into K contiguous parts (`optim.accumulate`). Rank r of R computes the
parts from r K / R to (r + 1) K / R, so R divides K, today and after every resume. What is drawn in
a part is keyed by (seed, step, part), part 0 as a run of one part always was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vitrail.config import TrainConfig
from vitrail.data.loading.batch import Batch
from vitrail.data.loading.slots import Slots
from vitrail.errors import UsageError
from vitrail.keyed_random import mix
from vitrail.spelling import count
from vitrail.training.ranks.ranks import ALONE, Ranks

WHOLE = ("muon", "schedule_free")  # update rules that do not work on shards


@dataclass(frozen=True)
class Part:
    """What is computed at once. inputs: images first, all (b, ...); key: seeds its dropout."""

    inputs: tuple[Tensor, ...]
    key: int


def cut(prepared: tuple[Tensor, ...], keys: Sequence[int]) -> Iterator[Part]:
    """As many equal parts of what was prepared, each tensor (n, ...), as there are keys."""
    chunks = zip(*(tensor.chunk(len(keys)) for tensor in prepared), strict=True)
    for inputs, key in zip(chunks, keys, strict=True):
        yield Part(inputs, key)


class Prepares(Protocol):
    """A task, as far as it prepares a batch."""

    def parts(self, batch: Batch, step: int) -> tuple[Tensor, ...]:
        """What step `step` computes with."""


@dataclass(frozen=True)
class Share:
    """Parts `first` .. `stop` - 1 of the `count` parts of a batch. is_exact: each is prepared by
    itself, so that its bits depend on nobody else; mixes: rows are mixed with the row before.
    """

    batch_size: int
    count: int
    first: int
    stop: int
    is_exact: bool = False
    mixes: bool = False

    @property
    def slots(self) -> Slots | None:
        """The rows that a loader makes; None for the whole batch in one piece."""
        mine = self.stop - self.first
        pieces = mine if self.is_exact else 1
        if mine == self.count and pieces == 1:
            return None
        rows = self.batch_size // self.count
        return Slots(self.batch_size, self.first * rows, self.stop * rows, pieces, self.mixes)

    def parts(self, task: Prepares, batch: Batch, step: int, seed: int) -> Iterator[Part]:
        """The parts of what the loader made of these rows for `step` (from 1)."""
        slots, number = self.slots, self.first
        pieces = [batch] if slots is None else slots.split(batch)
        each = (self.stop - self.first) // len(pieces)
        for piece in pieces:
            numbers = range(number, number + each)
            keys = [mix(seed, step, one) if one else mix(seed, step) for one in numbers]
            yield from cut(task.parts(piece, step), keys)
            number += each


def share_of(config: TrainConfig, ranks: Ranks = ALONE) -> Share:
    """What `ranks` computes of each step of a run, whose batch size is settled. Raises UsageError
    VIT-256 where its processes cannot share the parts.
    """
    parts = config.optim.accumulate
    check_parts(parts, ranks.world, is_exact=config.exact)
    mine = parts // ranks.world
    augment = config.augment
    return Share(
        int(config.batch_size),
        parts,
        ranks.rank * mine,
        (ranks.rank + 1) * mine,
        config.exact,
        config.objective == "classify" and bool(augment.mixup or augment.cutmix),
    )


def check_shards(config: TrainConfig, ranks: Ranks) -> None:
    """Raise UsageError VIT-269 for a run that cannot be kept in shards."""
    if not ranks.is_sharded:
        return
    optim = config.optim.name
    reasons = {
        "it needs more than one process (--nproc)": ranks.is_alone,
        "gradients are averaged in another order than --exact promises": config.exact,
        f"{optim} needs whole tensors; --optim.name adamw, sgd and lamb do not": optim in WHOLE,
        "--compile compiles the complete network": config.compile,
        "adapters (--lora-rank) are few weights": bool(config.lora.rank),
    }
    why = next((reason for reason, is_so in reasons.items() if is_so), None)
    if why is not None:
        raise UsageError(
            "VIT-269",
            f"--shard cannot be used here: {why}.",
            hint="Leave --shard out: each process then has the complete network.",
        )


def check_parts(parts: int, world: int, *, is_exact: bool) -> None:
    """Raise UsageError VIT-256 unless `world` processes can share the parts of a step."""
    fitting = [number for number in range(1, parts + 1) if parts % number == 0]
    if is_exact and parts & (parts - 1):
        power = 1 << (parts.bit_length() - 1)
        raise UsageError(
            "VIT-256",
            f"--exact adds the parts of a step in a binary tree: optim.accumulate {parts} is no "
            "power of two.",
            hint=f"Use --optim.accumulate {power} or {2 * power}, and --nproc 1, 2, 4 ...",
        )
    if world not in fitting:
        below = max(number for number in fitting if number <= world)
        above = min((number for number in fitting if number > world), default=below)
        near = " or ".join(dict.fromkeys(map(str, (below, above))))
        raise UsageError(
            "VIT-256",
            f"{count(world, 'process')} cannot share {count(parts, 'equal part')} of a step "
            "(optim.accumulate).",
            hint=f"Use --nproc {near}, or in a new run --optim.accumulate "
            f"{-(-parts // world) * world}.",
        )

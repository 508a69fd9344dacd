"""What the processes of a run agree on after each step, in one small reduction.

The first process decides what a clock decides: whether this was the last step, whether to evaluate
or to save, how long the run will be. Each tells its share of the loss, the signals that it was
sent, whether its next batch could be made, and how its share of a checkpoint goes. So the next
batch is fetched before they agree, and no process enters a step that another one cannot enter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from vitrail.data.loading.batch import Batch
from vitrail.training.ranks.ranks import Ranks, is_told, rebuilt, written

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")


@dataclass(frozen=True)
class Verdict:
    """Of a step. loss: the mean over the batch; total_steps: of the schedule from here on; stop:
    the signal that asked for an end; is_written: whether every share of a checkpoint in flight is
    on the disk; fault: why there is no next batch; lost: why a checkpoint could not be written.
    """

    loss: float = 0.0
    norm: float = 0.0
    is_last: bool = False
    is_evaluation_due: bool = False
    is_save_due: bool = False
    total_steps: int = 0
    stop: str | None = None
    is_written: bool = False
    fault: BaseException | None = None
    lost: BaseException | None = None

    def go_on(self, settle: Callable[[], None] | None = None) -> None:
        """Raises the fault, where there is one, after `settle`."""
        if self.fault is not None:
            if settle is not None:
                settle()
            raise self.fault


class Ahead:
    """The batches of a run: alone as they come, among others one ahead of the step."""

    def __init__(self, batches: Generator[Batch, None, None], ranks: Ranks) -> None:
        self._batches, self._ranks = batches, ranks
        self._next: Batch | None = None
        self._fault: Exception | None = None

    def begin(self, stop: str | None) -> Verdict:
        """What all agree on before the first step; there is none where somebody asked to stop.
        Raises why a first batch could not be made.
        """
        if self._ranks.is_alone:
            return Verdict()
        verdict = self.agree(Verdict(stop=stop))
        verdict.go_on()
        if verdict.stop:
            self._next = None
        return verdict

    def __iter__(self) -> Iterator[Batch]:
        if self._ranks.is_alone:
            yield from self._batches
        while self._next is not None:
            batch, self._next = self._next, None
            yield batch

    def agree(self, mine: Verdict) -> Verdict:
        """What all go on with. mine: what this process knows and, on the first, decides."""
        if self._ranks.is_alone:
            return mine
        self._fetch()
        decided = [mine.norm, mine.is_last, mine.is_evaluation_due, mine.is_save_due]
        decided += [mine.total_steps]
        first = [float(value) * self._ranks.is_first for value in decided]
        signals = [float(mine.stop == name) for name in SIGNALS]
        faults = [float(one is not None) for one in (self._fault, mine.lost)]
        known = [mine.loss, *first, *signals, float(mine.is_written), *faults]
        sums = self._ranks.agree(known)
        loss, norm, is_last, is_evaluation_due, is_save_due, total = sums[:6]
        stops = [name for name, count in zip(SIGNALS, sums[6:9], strict=True) if count]
        agreed = Verdict(
            loss,
            norm,
            bool(is_last),
            bool(is_evaluation_due),
            bool(is_save_due),
            int(total),
            stops[0] if stops else None,
            sums[9] == self._ranks.world,
        )
        if sums[10]:
            agreed = replace(agreed, fault=self._first(self._fault))
        return replace(agreed, lost=self._first(mine.lost)) if sums[11] else agreed

    def _fetch(self) -> None:
        """The next batch, or why there is none."""
        try:
            self._next = next(self._batches, None)
        except Exception as error:
            self._next, self._fault = None, error

    def _first(self, mine: BaseException | None) -> BaseException:
        """The error of the first process that has one: itself there, elsewhere as told."""
        record = written(mine) if mine is not None else None
        found = self._ranks.collect(json.dumps(record).encode())
        faults = [json.loads(content) for content in found]
        place = next((rank for rank, fault in enumerate(faults) if fault), 0)
        told = self._ranks.tell({"rank": place, "fault": faults[place] if faults else None})
        if mine is not None and told["rank"] == self._ranks.rank:
            return mine
        error = rebuilt(told["fault"])
        assert is_told(error)
        return error

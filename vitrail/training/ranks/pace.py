"""What each process of a run spends its own time on, and which one the others wait for.

The reduction of a step lets all processes take equally long, so a slow one does not show in the
time of a step, nor in that of a backward pass. What shows it is what a process does before it: the
wait for its own images, and the forward passes of its own parts. These are gathered once a log line
and written to ranks.jsonl, one record a process. On a GPU the forward pass is only started by then,
so its time is that of the host; in shards (--shard) it holds waiting for the others too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vitrail.training.ranks.ranks import Ranks
from vitrail.training.storage.metrics_log import MetricsLog

SLOW = 0.2  # of the time of a step that the others wait for one process, from which on it is named
KINDS = ("data", "compute")
Loss = Callable[..., Tensor]


@dataclass
class Pace:
    """The own times of this process since the last log line. log: ranks.jsonl, on the first."""

    ranks: Ranks
    log: MetricsLog | None
    waited: float = 0.0  # for images, until the last log line
    computed: float = 0.0  # forward passes since then
    steps: int = 0  # until the last log line
    _named: set[tuple[int, str]] = field(default_factory=set)

    def timed(self, loss: Loss) -> Loss:
        """`loss`, whose time counts as this process's own."""

        def of_parts(*inputs: Any) -> Tensor:
            began = time.perf_counter()
            found = loss(*inputs)
            self.computed += time.perf_counter() - began
            return found

        return of_parts

    def lap(
        self, step: int, steps: int, waited: float, step_ms: float
    ) -> tuple[dict[str, Any], str]:
        """What the processes found since the last call, on all of them: figures, and a sentence on
        a slow one that was not named before, else "". steps, waited: steps of this process, and its
        seconds for images, since the start.
        """
        own = torch.tensor([waited - self.waited, self.computed], dtype=torch.float64)
        done = max(1, steps - self.steps)
        self.waited, self.computed, self.steps = waited, 0.0, steps
        rows = [[1000 * one / done for one in row] for row in self.ranks.whole(own).tolist()]
        if self.log is not None:
            for rank, (data, compute) in enumerate(rows):
                record = {"step": step, "rank": rank, "step_ms": step_ms}
                self.log.write(
                    record | {"data_ms": round(data, 3), "compute_ms": round(compute, 3)}
                )
        slowest, kind, extra, ratio = slowest_of(rows)
        figures = {
            "perf/data_wait_max": round(min(1.0, max(row[0] for row in rows) / step_ms), 4),
            "perf/slowest_rank": slowest,
            "perf/slowest_ratio": round(ratio, 3),
        }
        if extra < SLOW * step_ms or (slowest, kind) in self._named:
            return figures, ""
        self._named.add((slowest, kind))
        place = KINDS.index(kind)
        others = median(row[place] for rank, row in enumerate(rows) if rank != slowest)
        return figures, (
            f"process {slowest} of {self.ranks.world} (from 0) is slow: the others wait for it "
            f"{100 * extra / step_ms:.0f} % of the time ({kind}: {rows[slowest][place]:.0f} ms a "
            f"step, the others {others:.0f} ms)"
        )


def slowest_of(rows: list[list[float]]) -> tuple[int, str, float, float]:
    """The process with the most time of its own, what of it is more than the others', how much
    more it is in all, and how many times as much. rows: of each process, ms for data and compute.
    """
    totals = [sum(row) for row in rows]
    slowest = max(range(len(rows)), key=totals.__getitem__)
    others = [row for rank, row in enumerate(rows) if rank != slowest]
    usual = [median(row[place] for row in others) for place in range(len(KINDS))]
    more = [mine - one for mine, one in zip(rows[slowest], usual, strict=True)]
    kind = KINDS[max(range(len(KINDS)), key=more.__getitem__)]
    total = median(sum(row) for row in others)
    return slowest, kind, totals[slowest] - total, totals[slowest] / max(total, 1e-9)

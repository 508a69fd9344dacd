"""Workers that die: which pictures they were at, and what that says about those.

A decoder may crash in native code, and a system without memory kills whom it likes. The worker
notes each picture in shared memory before it is read, so that the parent knows afterwards. The
workers are then started anew at the step that was due: what a step holds does not change. A picture
that two workers died at in a row is taken for the cause and becomes a picture that cannot be used.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from vitrail.data.decode import DecodeFault, Pixels
from vitrail.data.records import Labels, Source
from vitrail.errors import EnvironmentFault

DEATHS_OF_A_PICTURE = 2
MAX_RESTARTS = 10  # without a batch in between
NOWHERE = -1
REASON = "the process that decodes it crashes"


@dataclass(frozen=True, eq=False)
class Watched:
    """A source whose readers leave word of where they are. places: (workers,) int64, shared;
    crashed: pictures that are not read again.
    """

    source: Source
    places: Tensor
    crashed: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """Of the source."""
        return self.source.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the source."""
        return self.source.classes

    @property
    def labels(self) -> Labels:
        """Of the source."""
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> tuple[bytes | Pixels, Any]:
        """As the source's. Raises DecodeFault for a picture that workers died of."""
        if index in self.crashed:
            raise DecodeFault(REASON)
        self._note(index)
        return self.source.read(index)

    def leave(self) -> None:
        """The last picture that was read is done with."""
        self._note(NOWHERE)

    def _note(self, index: int) -> None:
        worker = get_worker_info()
        if worker is not None:
            self.places[worker.id] = index

    def source_id(self, index: int) -> str:
        """As the source's."""
        return self.source.source_id(index)


@dataclass
class Deaths:
    """What became of the workers of one loader."""

    num_workers: int
    counts: dict[int, int] = field(default_factory=dict)  # of pictures
    restarts: int = 0

    def places(self) -> Tensor:
        """Where new workers note their pictures."""
        found = torch.full((self.num_workers,), NOWHERE, dtype=torch.int64)
        found.share_memory_()  # type: ignore[no-untyped-call]
        return found

    def crashed(self) -> frozenset[int]:
        """The pictures that are taken for the cause."""
        return frozenset(one for one, count in self.counts.items() if count >= DEATHS_OF_A_PICTURE)

    def note(self, places: Tensor, exit_codes: Iterable[int | None]) -> None:
        """Workers have died. exit_codes: of each worker, None where it lives.

        Raises EnvironmentFault VIT-522 where they die again and again.
        """
        codes = list(exit_codes)
        here = {int(at) for at, code in zip(places, codes, strict=True) if code is not None}
        self.counts = {at: self.counts.get(at, 0) + 1 for at in here - {NOWHERE}} | {
            at: DEATHS_OF_A_PICTURE for at in self.crashed()
        }
        self.restarts += 1
        if self.restarts > MAX_RESTARTS:
            how = ", ".join(sorted({_how(code) for code in codes if code is not None}))
            raise EnvironmentFault(
                "VIT-522",
                f"workers that read pictures die again and again ({how}).",
                hint="A system without free memory does that: use fewer workers (--data.workers 0 "
                "needs none) or a smaller --batch-size.",
            )


def is_death(error: RuntimeError) -> bool:
    """Whether torch's loader says that a worker died."""
    return re.search(r"DataLoader worker \(pid", str(error)) is not None


def _how(code: int) -> str:
    """An exit code for people."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"

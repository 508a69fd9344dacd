"""What a run learns: what a batch becomes, what is minimised, and how held-out images are judged.

The loop knows nothing else of it. `classify.py` is one task, `predict_patches.py` the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from vitrail.data.loading.batch import Batch
from vitrail.data.sources.open_data import Source
from vitrail.evaluation.record import Evaluation

FIGURES = ("n", "images_per_s", "metrics", "record")  # of an EvalResult
Forward = Callable[..., Tensor]  # the network, compiled where that was asked for
Parts = tuple[Tensor, ...]  # images first; all of the same length B


@dataclass(frozen=True)
class EvalResult:
    """A network on n held-out images.

    metrics: as metrics.jsonl has them, without "val/": loss and top1 at least. record: what
    run.json and model.json keep of a split. evaluation: where the network classifies.
    """

    n: int
    images_per_s: float
    metrics: Mapping[str, float]
    record: dict[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None


class Task(Protocol):
    """What a run learns."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Held-out splits that are judged at the end."""

    @property
    def num_outputs(self) -> int:
        """Answers that are told apart; guessing has the loss ln(num_outputs)."""

    def parts(self, batch: Batch, step: int) -> Parts:
        """What step `step` (from 1) computes with, on the device. A function of its arguments."""

    def loss(self, forward: Forward, parts: Parts) -> Tensor:
        """The mean over the images of `parts`, a float32 scalar."""

    def judge(
        self, network: nn.Module, source: Source, is_over: Callable[[], bool] = ...
    ) -> EvalResult:
        """`network` on every image of `source`, or on the first ones until the time is over.
        Several processes share them, each until its time is over.
        """

    def baselines(self, source: Source, max_secs: float, slowness: float = ...) -> dict[str, float]:
        """Top-1 on `source` of what does not learn, by name. slowness: how many times as long
        things take as on an idle machine.
        """

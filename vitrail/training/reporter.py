"""What a run tells the one who started it, as it happens.

The command line and the tests implement `Reporter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from vitrail.training.plan.plan_run import Plan


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Metrics are fractions from 0 to 1; `stopped` is None or why it ended before its last step.
    """

    run_dir: Path
    seconds: float
    steps: int
    best: dict[str, Any] = field(default_factory=dict)
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    baselines: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None
    next_commands: list[str] = field(default_factory=list)


class Reporter(Protocol):
    """Receives what happens during a run; nothing it does changes the run."""

    def plan(self, plan: Plan, run_dir: Path) -> None:
        """The resolved settings, before the first step."""

    def notice(self, text: str) -> None:
        """One sentence worth reading."""

    def step(self, record: Mapping[str, Any]) -> None:
        """A training step.

        Keys: step, total_steps, epoch, train/loss, optim/lr, optim/grad_norm, eta_secs, and the
        pace (`time_limit.Clock.lap`: perf/images_per_s, perf/data_wait ...).
        """

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """An evaluation on the validation split: the record written to metrics.jsonl."""

    def result(self, result: RunResult) -> None:
        """The end of the run."""


class SilentReporter:
    """Says nothing."""

    def plan(self, plan: Plan, run_dir: Path) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""

    def step(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def result(self, result: RunResult) -> None:
        """Nothing."""

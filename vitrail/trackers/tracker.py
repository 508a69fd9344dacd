"""What a tracker is, and the reporter that tells trackers what a run says.

A tracker gets the settings, the figures of `metrics.jsonl` by step, and the end. It changes nothing
of a run and cannot end it: one that fails is said once and left out. It begins with the first
record, whose step says where a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vitrail.config import flatten
from vitrail.spelling import printable
from vitrail.training.reporter import Reporter, RunResult

if TYPE_CHECKING:
    from vitrail.training.plan.plan_run import Plan

Figures = Mapping[str, float]


class Tracker(Protocol):
    """Where the figures of a run go. Whatever it raises is said, and the run goes on."""

    @property
    def name(self) -> str:
        """As on the command line."""

    def begin(self, run_dir: Path, settings: Mapping[str, str], step: int) -> None:
        """The run at `run_dir`, whose next record is of `step`."""

    def log(self, step: int, figures: Figures) -> None:
        """Figures of a step, as in metrics.jsonl: {"train/loss": 1.2}."""

    def end(self, status: str, figures: Figures) -> None:
        """The end: "finished" or the signal that stopped it; figures of the test split."""


@dataclass
class Tracked:
    """Tells a reporter and trackers the same."""

    reporter: Reporter
    trackers: list[Tracker]
    _run_dir: Path = Path()
    _settings: dict[str, str] = field(default_factory=dict)
    _has_begun: bool = False

    def plan(self, plan: Plan, run_dir: Path) -> None:
        """The resolved settings."""
        self._run_dir = run_dir
        self._settings = {key: str(value) for key, value in flatten(plan.config).items()}
        self.reporter.plan(plan, run_dir)

    def notice(self, text: str) -> None:
        """One sentence worth reading."""
        self.reporter.notice(text)

    def step(self, record: Mapping[str, Any]) -> None:
        """A training step."""
        self.reporter.step(record)
        self._log(record)

    def evaluation(self, record: Mapping[str, Any]) -> None:
        """An evaluation."""
        self.reporter.evaluation(record)
        self._log(record)

    def result(self, result: RunResult) -> None:
        """The end of the run."""
        self.reporter.result(result)
        found = numbers({f"test/{key}": value for key, value in (result.test or {}).items()})
        if self._has_begun:
            self._each(lambda tracker: tracker.end(result.stopped or "finished", found))

    def _log(self, record: Mapping[str, Any]) -> None:
        step = int(record["step"])
        if not self._has_begun:
            self._has_begun = True
            self._each(lambda tracker: tracker.begin(self._run_dir, self._settings, step))
        found = numbers(record)
        self._each(lambda tracker: tracker.log(step, found))

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                work(tracker)
            except Exception as error:  # a run is not lost for want of a tracker, whatever failed
                self.trackers.remove(tracker)
                why = printable(f"{type(error).__name__}: {error}".splitlines()[0][:200])
                self.reporter.notice(f"{tracker.name} gets no more figures of this run: {why}")


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """What of a record is a figure with a name "namespace/name"."""
    return {
        key: float(value)
        for key, value in record.items()
        if "/" in key and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def tracked(reporter: Reporter, trackers: Sequence[Tracker]) -> Reporter:
    """`reporter`, and `trackers` where there are any."""
    return Tracked(reporter, list(trackers)) if trackers else reporter

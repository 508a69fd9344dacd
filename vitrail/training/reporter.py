"""What a run tells the one who started it, as it happens.

The command line and the tests implement `Reporter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vitrail.errors import VitrailError
from vitrail.notebook import open_page, show, svg, table
from vitrail.report.curves import drawings_of
from vitrail.report.run_record import read_run

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

    @property
    def page(self) -> Path:
        """The report."""
        return self.run_dir / "report.html"

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        found = [("run", str(self.run_dir)), ("steps", f"{self.steps:,} in {self.seconds:.0f} s")]
        found += [("stopped", self.stopped)] if self.stopped else []
        if "val/top1" in self.best:
            found.append(("best validation top-1", f"{self.best['val/top1']:.4f}"))
        if self.test and self.test.get("top1") is not None:
            low, high = self.test["top1_interval"]
            text = f"{self.test['top1']:.4f} (95 % {low:.3f}-{high:.3f})"
            found.append(("test top-1", text))
        return [
            *found,
            *((f"baseline: {key}", f"{one:.4f}") for key, one in self.baselines.items()),
        ]

    def show(self, *, browser: bool = False) -> None:
        """Show figures and curves in the notebook; elsewhere print the figures and where the report
        lies, which browser=True opens.
        """
        if browser:
            open_page(self.page)
        else:
            show(self, [*self.rows(), ("report", self.page)])

    def __repr__(self) -> str:
        return f"RunResult({', '.join(f'{name} {value}' for name, value in self.rows())})"

    def _repr_html_(self) -> str:
        with suppress(VitrailError):  # a run that was moved or deleted has no curves to show
            drawings = drawings_of(read_run(self.run_dir))
            curves = [svg(one.svg.file(), one.caption) for one in drawings]
            return table(self.rows(), title="Run") + "".join(curves)
        return table(self.rows(), title="Run")


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

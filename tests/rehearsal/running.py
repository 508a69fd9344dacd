"""A whole run on the pretend accelerator, and what the host waited for, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.device import NAME, Rehearsal
from vitrail.data.loading.batch import Batch
from vitrail.training import loop
from vitrail.training.plan.plan_run import Plan, plan_run
from vitrail.training.ranks.verdict import Ahead


@dataclass
class Waits:
    """What the host waited for: in each step, in making each batch, and in all of the run, its
    evaluations and checkpoints included.
    """

    steps: list[list[str]] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    all: list[str] = field(default_factory=list)


def train_there(rehearsal: Rehearsal, folder: Path, name: str, settings: dict[str, Any]) -> Waits:
    """A run that is planned on the host and computes on the device."""
    found = Waits()
    step = loop._step

    def plan_there(*arguments: Any, **options: Any) -> Plan:
        plan = plan_run(*arguments, **options)
        return replace(plan, config=plan.config.model_copy(update={"device": NAME}))

    def step_there(*arguments: Any) -> Any:
        with rehearsal.noting() as waits:
            answer = step(*arguments)
        found.steps.append(waits)
        return answer

    class AheadThere(Ahead):
        def __iter__(self) -> Iterator[Batch]:
            batches = super().__iter__()
            while True:
                with rehearsal.noting() as waits:
                    batch = next(batches, None)
                if batch is None:
                    return
                found.batches.append(waits)
                yield batch

    with rehearsal.noting() as waits, pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plan_run", plan_there)
        patch.setattr(loop, "_step", step_there)
        patch.setattr(loop, "Ahead", AheadThere)
        loop.train([("test", settings)], runs_dir=folder, name=name, with_report=False)
    found.all = waits
    return found

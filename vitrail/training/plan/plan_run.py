"""From a user's settings to a complete plan: nothing left "auto", every choice with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitrail.config import TrainConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.examples import Examples
from vitrail.data.sources.open_data import Splits
from vitrail.models.names import ModelConfig
from vitrail.settings.layers import resolve
from vitrail.training.optim import batch_statistics
from vitrail.training.plan.auto import choose
from vitrail.training.plan.check_settings import check_settings
from vitrail.training.plan.compatibility import check_run
from vitrail.training.plan.derived import derive
from vitrail.training.plan.facts import Facts, measure, open_splits
from vitrail.training.plan.starting_model import open_start
from vitrail.training.plan.starting_weights import starting_weights

Layers = Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """A run before its first step.

    choices: (setting, value, why) for all that was "auto". changes: what --from adapts, a sentence
    each. origin: the library that its weights come from, "" for vitrail.
    """

    config: TrainConfig
    sources: dict[str, str]
    choices: tuple[tuple[str, Any, str], ...]
    splits: Splits
    facts: Facts
    model: ModelConfig
    preprocess: Preprocess
    changes: tuple[str, ...] = ()
    origin: str = ""
    unread: tuple[str, ...] = ()  # what a user set and data of this kind does not need
    before: Examples | str = ""  # what the model of --from was trained on, or why nobody can tell

    @property
    def steps_per_epoch(self) -> float:
        """Steps that one pass over the training images takes."""
        assert isinstance(self.config.batch_size, int)
        return len(self.splits.train) / self.config.batch_size

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing of it before the first step."""
        return (*self.unread, *batch_statistics.sentences(self.config, self.model))

    @property
    def eval_every(self) -> int:
        """Steps between evaluations."""
        return max(1, round(float(self.config.eval_every_epochs) * self.steps_per_epoch))

    @property
    def total_steps(self) -> int | None:
        """Length of the run; None where a time limit decides."""
        config = self.config
        if config.steps is not None:
            return config.steps
        if config.examples is not None:
            return max(1, config.examples // int(config.batch_size))
        if config.epochs is not None:
            return max(1, round(config.epochs * self.steps_per_epoch))
        return None


def plan_run(
    layers: Layers,
    recorded: Mapping[str, Any] | None = None,
    splits: Splits | None = None,
    *,
    world: int = 1,
    is_new: bool = True,
) -> Plan:
    """From what was asked for, over facts and a draft, to the settings of a run.

    Layers go from low to high: --config, VITRAIL_*, command line. is_new: false of a run that is
    resumed; recorded: what it says of the model of --from, which then is not opened; splits: its
    images. world: processes that train a new run.
    Raises UsageError and DataError before any work is done, ModelError for --from and --teacher.
    """
    asked, sources = resolve(layers)
    splits = splits or open_splits(asked)
    facts = measure(splits.train)
    start = open_start(asked.start) if asked.start.model and recorded is None else None
    draft = choose(asked, sources, facts, start, multi_label=splits.multi_label, world=world)
    config, unread = check_settings(draft.config(), splits, draft, layers if is_new else ())
    model, preprocess, origin = derive(config, len(splits.classes), facts, start, recorded)
    choices = tuple(draft.reasons)
    plan = Plan(config, draft.sources, choices, splits, facts, model, preprocess, origin=origin)
    plan = replace(plan, unread=unread)
    check_run(config, model, splits, plan.total_steps, is_new=is_new)
    if start is None:
        return plan
    _, changes = starting_weights(config, model, splits.classes, start)
    return replace(plan, changes=(*start.notes, *changes), before=start.examples)

"""Trials, one after the other, until the time is used up; the best by validation images.

Which values a trial takes is decided by Optuna (Akiba et al. 2019: a tree of Parzen estimators,
pruned at the median), from the rows of the trials before it, the seed and its number, and from
nothing else: a search that was killed asks again and gets the same answer. The first trial has the
settings that would be taken without a search, so the best one is never worse than they are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from vitrail.config import SHORT, flatten
from vitrail.data.sources.open_data import fingerprint
from vitrail.errors import DataError, UsageError, lacking
from vitrail.settings.layers import DURATIONS, resolve
from vitrail.studies.budget import FINISH_SECS, KEPT_BACK, LEAST_STEPS, rounded_down
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.engine.store import Store
from vitrail.studies.setup import absolute
from vitrail.studies.tuning.space import Range, default_ranges
from vitrail.studies.tuning.trial import CURVE, PRUNED, Say, Trial, run_trial
from vitrail.training.dry_run import dry_run
from vitrail.training.plan.plan_run import Layers, Plan, plan_run
from vitrail.training.run_files import readable

if TYPE_CHECKING:
    import optuna

TRIALS = 12  # of full length that a budget is divided by
EVALUATIONS = 6  # of a trial, where it may be ended
UNJUDGED = 0.3  # of a trial's steps: the first evaluations say little about the last one
STARTUP = 4  # trials at random before the estimator has a say, and before any is pruned
PACE_STEPS = 6


class Watcher(Protocol):
    """Hears how a search gets on."""

    def trial(self, trial: Trial) -> Say:
        """A trial begins; what is told its share."""

    def row(self, row: Row, best: Row | None) -> None:
        """A trial has ended."""


@dataclass(frozen=True)
class Length:
    """How long trials are. own: settings of every trial that the search decides. steps, secs: of a
    trial of full length.
    """

    own: Mapping[str, Any]
    steps: int
    secs: float


@dataclass(frozen=True)
class Limit:
    """When a search ends: by time, or after so many trials."""

    budget_secs: float
    num_trials: int | None = None

    def is_over(self, rows: Sequence[Row], trial_secs: float) -> bool:
        """Whether another trial has no place; the first always has. trial_secs: what one of full
        length was expected to take.
        """
        if self.num_trials is not None:
            return len(rows) >= self.num_trials
        spent = sum(row.cost["cell_secs"] for row in rows)
        whole = [row.cost["cell_secs"] for row in rows if row.arm != PRUNED]
        expected = sum(whole) / len(whole) if whole else trial_secs
        return bool(rows) and spent + expected > self.budget_secs


@dataclass(frozen=True)
class Search:
    """What is searched. layers: of a trial, without what it varies. default: what would be taken,
    by name of a range. said: what of the data is left out.
    """

    plan: Plan
    layers: Layers
    ranges: Sequence[Range]
    default: Mapping[str, Axis]
    said: Sequence[str] = ()

    @property
    def seed(self) -> int:
        """Of every trial, and of the search."""
        return int(self.plan.config.seed)

    def facts(self) -> dict[str, Any]:
        """What makes a question: the same is continued, another gets a folder of its own."""
        settings = {key: value for _, layer in self.layers for key, value in layer.items()}
        parts = self.plan.splits.parts()
        return {
            "verb": "tune",
            "data": {name: fingerprint(one)[:16] for name, one in parts.items()},
            "settings": {key: str(one) for key, one in settings.items() if key != "data.path"},
            "ranges": [one.to_json() for one in self.ranges],
        }


def plan_search(layers: Layers, ranges: Sequence[Range]) -> Search:
    """Look at the data and the settings.

    Raises UsageError VIT-203 for a time limit and where no classes are learnt, VIT-211 and 212 for
    a range of no setting, and what a run would raise; DataError VIT-323 without validation images.
    """
    given = _given(layers)
    if "time_limit_secs" in given:
        raise UsageError(
            "VIT-203",
            "--time-limit has no effect on tune, which divides its budget.",
            hint="Leave it out: --budget 30m",
        )
    checked = readable(plan_run(layers))
    plan = checked.plan
    if plan.config.objective != "classify":
        raise UsageError(
            "VIT-203",
            f"--objective {plan.config.objective} has no effect on tune, which chooses by the "
            "accuracy of classes.",
            hint="Leave it out, or tune what follows it: --from RUN",
        )
    if plan.splits.val is None:
        raise DataError(
            "VIT-323",
            f"{plan.splits.name} has no validation images to choose by.",
            hint="Leave the split to vitrail: put all images into class folders",
        )
    ranges = list(ranges) or default_ranges(plan.config, given)
    _check(layers, ranges)
    flat = flatten(plan.config) | {f"model.{k}": v for k, v in plan.model.model_dump().items()}
    default = {one.name: flat[one.name] for one in ranges if _lies_in(flat.get(one.name), one)}
    return Search(plan, layers, ranges, default, (*plan.splits.notes, *checked.found.left_out()))


def measure(asked: Search, budget_secs: float) -> Length:
    """The pace of a run, and the length of trials: what the user has given, or a share of the
    budget. Raises UsageError VIT-291 for a budget too short.
    """
    plan, given = asked.plan, _given(asked.layers)
    found, batch = dry_run(plan, PACE_STEPS), int(plan.config.batch_size)
    val, train = plan.splits.val, plan.splits.train
    assert val is not None
    besides = FINISH_SECS + (EVALUATIONS + 1) * len(val) / max(found.eval_images_per_s, 1e-9)
    own: dict[str, Any] = {"data.path": absolute(str(plan.config.data.path))}
    if any(key in given for key in DURATIONS):
        steps = plan.total_steps or 1
    else:
        share = budget_secs * (1 - KEPT_BACK) / TRIALS
        steps = int((share - besides) / found.step_secs)
        if steps < LEAST_STEPS:
            least = TRIALS * (LEAST_STEPS * found.step_secs + besides) / (1 - KEPT_BACK)
            raise _too_short(budget_secs, least)
        own["examples"] = rounded_down(steps * batch)
        steps = own["examples"] // batch
    an_epoch = batch / len(train)
    own["eval_every_epochs"] = max(1.0, steps / EVALUATIONS) * an_epoch
    return Length(own, steps, steps * found.step_secs + besides)


def _given(layers: Layers) -> dict[str, Any]:
    """The settings that the user has given."""
    return {
        SHORT.get(key, key): one
        for _, layer in layers
        for key, one in layer.items()
        if one is not None
    }


def _too_short(budget_secs: float, least_secs: float) -> UsageError:
    minutes = math.ceil(1.1 * least_secs / 60 + 0.5)  # the pace of a busy machine varies
    return UsageError(
        "VIT-291",
        f"a budget of {budget_secs:.0f} s is too short for {TRIALS} trials; they need "
        f"{least_secs:.0f} s at least.",
        hint=f"Use --budget {minutes}m, or say how long a trial is: --epochs 5",
    )


def _check(layers: Layers, ranges: Sequence[Range]) -> None:
    """Raise what a run would for a setting that does not exist or takes no such values."""
    for one in ranges:
        for value in one.examples:
            resolve([*layers, (f"--over {one.name}", {one.name: value})])


def _lies_in(value: object, one: Range) -> bool:
    if one.choices:
        return value in one.choices
    return isinstance(value, int | float) and one.low <= value <= one.high


def search(
    asked: Search, length: Length, limit: Limit, store: Store, watcher: Watcher
) -> str | None:
    """Run the trials that are missing; the signal that stopped it, or None.

    Raises EnvironmentFault VIT-520 where Optuna is missing, and the first error of a trial that is
    no result.
    """
    optuna_ = load_optuna()
    store.mend()
    rows = list(store.rows().values())
    while not limit.is_over(rows, length.secs):
        study = _study(optuna_, asked, rows, round(UNJUDGED * length.steps))
        proposed = _asked(study, asked, len(rows))
        trial = Trial(len(rows), dict(proposed.params))

        def is_worse(step: int, top1: float, one: optuna.Trial = proposed) -> bool:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one.report(top1, step)
                return bool(one.should_prune())

        layers = [*asked.layers, ("tune", {**length.own, **trial.values})]
        row = run_trial(trial, layers, store.folder, asked.seed, is_worse, watcher.trial(trial))
        if isinstance(row, str):
            return row
        store.append(row)
        rows.append(row)
        watcher.row(row, best_of(rows))
    return None


def best_of(rows: Sequence[Row]) -> Row | None:
    """The trial with the highest validation top-1; of equal ones that of the lowest loss."""
    done = [row for row in rows if "val/top1" in row.values]
    return max(done, key=lambda row: (row.values["val/top1"], -row.values["val/nll"]), default=None)


def _study(
    optuna_: ModuleType, asked: Search, rows: Sequence[Row], unjudged: int = 0
) -> optuna.Study:
    """What Optuna knows after these trials. unjudged: steps that a trial has in any case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that it calls experimental
        study: optuna.Study = optuna_.create_study(
            direction="maximize",
            sampler=optuna_.samplers.TPESampler(
                seed=(asked.seed * 100_003 + len(rows)) % 2**32,
                n_startup_trials=STARTUP,
                multivariate=True,
            ),
            pruner=optuna_.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=unjudged),
        )
        for row in rows:
            study.add_trial(_frozen(optuna_, asked, row))
    return study


def _frozen(optuna_: ModuleType, asked: Search, row: Row) -> Any:
    """A finished trial as Optuna has it. One that diverged is the worst there is."""
    curve = {
        int(key.removeprefix(CURVE)): value
        for key, value in row.values.items()
        if key.startswith(CURVE)
    }
    is_pruned = row.arm == PRUNED and bool(curve)
    return optuna_.trial.create_trial(
        params=dict(row.axes),
        distributions={
            one.name: one.distribution() for one in asked.ranges if one.name in row.axes
        },
        value=None if is_pruned else row.values.get("val/top1", 0.0),
        intermediate_values=curve,
        state=optuna_.trial.TrialState.PRUNED if is_pruned else optuna_.trial.TrialState.COMPLETE,
    )


def _asked(study: optuna.Study, asked: Search, number: int) -> optuna.Trial:
    """The next trial; the first has what would be taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if number == 0 and asked.default:
            study.enqueue_trial(dict(asked.default))
        return study.ask({one.name: one.distribution() for one in asked.ranges})


def importance(asked: Search, rows: Sequence[Row]) -> dict[str, float]:
    """How much each setting matters to a trial being among the better ones: shares of 1, by PED-
    ANOVA (Watanabe et al. 2023); {} for too few trials.
    """
    optuna_ = load_optuna()
    done = [row for row in rows if row.arm != PRUNED]
    if len(done) < 2 * STARTUP or len(asked.ranges) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna_.importance.PedAnovaImportanceEvaluator()
        found = optuna_.importance.get_param_importances(
            _study(optuna_, asked, done), evaluator=evaluator
        )
    return {name: float(one) for name, one in found.items()}


def load_optuna() -> ModuleType:
    """The package. Raises EnvironmentFault VIT-520 where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise lacking("vitrail tune", "optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna

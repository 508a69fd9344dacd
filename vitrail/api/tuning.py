"""A search over settings within a budget, by validation images; continued where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

from vitrail.api.options import TrainOptions, call_text, layer_of, shows_options
from vitrail.api.studies import StudyResult
from vitrail.cli.display.in_python import line_of
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import Line, ProgressLine, clock
from vitrail.errors import UsageError, check_numbers
from vitrail.setting_values import check_unit, parse_secs
from vitrail.spelling import command_text, count
from vitrail.studies.compute_study import Computed
from vitrail.studies.engine.row import Row
from vitrail.studies.engine.store import Store, open_store, question_of
from vitrail.studies.results.markdown import write_markdown
from vitrail.studies.results.result import Outcome
from vitrail.studies.results.study_page import write_page
from vitrail.studies.results.tables import write_tables
from vitrail.studies.tuning import findings
from vitrail.studies.tuning import search as searching
from vitrail.studies.tuning.search import (
    Length,
    Limit,
    Search,
    best_of,
    load_optuna,
    measure,
    plan_search,
)
from vitrail.studies.tuning.space import Range, ranges_of
from vitrail.studies.tuning.trial import Say, Trial
from vitrail.training.plan.plan_run import Layers

BEST = "best.toml"


@shows_options
def tune(
    data: str | Path,
    *,
    over: Sequence[str] = (),
    budget: str = "30m",
    trials: int | None = None,
    out: str | Path = "tune",
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
    **options: Unpack[TrainOptions],
) -> StudyResult:
    """Search for better settings within a budget, as `vitrail tune` (extra "tune").

    over: settings and their ranges, ["optim.lr=1e-4..1e-2", "augment.policy=none,randaugment"];
    rate, decay of weights and label smoothing unless given. budget: "20m", "2h". trials: how many,
    instead of as many as the budget has time for. out: folder of searches. options, settings: of
    every trial, as for `train`. The answer's `facts["best"]` has the trial's settings, its folder
    best.toml for `vitrail train --config`. Test images are judged once, for the best trial. The
    same call again continues what was stopped.

    Raises UsageError VIT-202, VIT-203, VIT-211, VIT-212, VIT-291; DataError VIT-303 to VIT-323;
    EnvironmentFault VIT-504, VIT-520.
    """
    given = {"over": list(over), "budget": budget, "trials": trials, **options}
    layers = [("arguments", layer_of(data, options, settings))]
    command = call_text("tune", data, given)
    asked = Asked(layers, tuple(over), budget, trials, Path(out), command)
    return tuned(asked, Output(quiet=not progress), line_of if progress else ProgressLine)


class Asked:
    """What is searched, and for how long. command: what repeats it."""

    def __init__(
        self,
        layers: Layers,
        over: Sequence[str],
        budget: str,
        trials: int | None,
        out: Path,
        command: str,
    ) -> None:
        """Raises UsageError VIT-202, VIT-212; EnvironmentFault VIT-520 without Optuna."""
        check_numbers({"--trials": trials} if trials is not None else {})
        check_unit("--budget", budget)
        seconds = parse_secs(budget)
        if not isinstance(seconds, float) or not seconds > 0:
            raise UsageError(
                "VIT-202", f"--budget {budget}: expected a time.", hint="Use 20m or 2h"
            )
        load_optuna()
        self.search = plan_search(layers, ranges_of(over))
        self.limit = Limit(seconds, trials)
        self.out, self.command = out, command


def tuned(
    asked: Asked, output: Output, line: Callable[[Output], Line] = ProgressLine
) -> StudyResult:
    """Search, look at the test images once, write tables, figures and the page."""
    plan = asked.search.plan
    for sentence in asked.search.said:
        output.note(f"data: {sentence}")
    store = open_store(asked.out, plan.splits.name, question_of(asked.search.facts()))
    with store.lock():
        length = length_of(asked, store, output)
        with closing(TuneWatcher(line(output))) as watcher:
            stopped = searching.search(asked.search, length, asked.limit, store, watcher)
        return conclude(asked, store, stopped)


def length_of(asked: Asked, store: Store, output: Output) -> Length:
    """How long trials are: as they were in a search that is continued."""
    record = store.record()
    is_new = "own" not in record
    if is_new:
        length = measure(asked.search, asked.limit.budget_secs)
        record |= {**asked.search.facts(), "own": dict(length.own), "steps": length.steps}
        record |= {"trial_secs": length.secs}
        store.write("study.json", {**record, "command": asked.command, "test": []})
    else:
        length = Length(record["own"], int(record["steps"]), float(record["trial_secs"]))
    kept = len(store.rows())
    for line in (
        f"folder {store.folder} ({'new' if is_new else 'continued'})",
        *(f"over   {one.name} {_shown(one)}" for one in asked.search.ranges),
        f"trials of about {clock(length.secs)} each"
        + (f"; {count(kept, 'trial')} finished before" if kept else ""),
    ):
        output.note(line)
    return length


def _shown(one: Range) -> str:
    if one.choices:
        return ", ".join(map(str, one.choices))
    return f"{one.low:g} to {one.high:g}{' (logarithmic)' if one.is_log else ''}"


class TuneWatcher:
    """A line a trial, and a bar for the running one."""

    def __init__(self, bar: Line) -> None:
        self.bar = bar

    def trial(self, trial: Trial) -> Say:
        """Move the bar."""

        def say(share: float) -> None:
            if self.bar.is_due:
                self.bar.draw(f"trial {trial.key}", share, 1.0)

        return say

    def row(self, row: Row, best: Row | None) -> None:
        """A trial's result."""
        found = row.values.get("val/top1")
        says = row.arm if found is None else f"val/top1 {found:.4f}"
        mark = "  best" if best is not None and best.key == row.key else ""
        seconds = row.cost["cell_secs"]
        self.bar.above(f"{row.key}  {says:<15}  {seconds:5.0f} s  {findings.values_of(row)}{mark}")

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


def conclude(asked: Asked, store: Store, stopped: str | None) -> StudyResult:
    """What was found; written, and the test images looked at once, where nothing stopped it."""
    rows = list(store.rows().values())
    best = best_of(rows)
    findings.keep_the_best(store, rows)
    test: Mapping[str, Any] = {}
    if best is not None and stopped is None:
        test = findings.tested(asked.search, store, best)
    found = findings.outcome(asked.search, store, rows, test)
    title = f"Settings for {asked.search.plan.splits.name}"
    if stopped is None:
        write(asked, store, rows, found, title)
    done = best if stopped is None else None
    commands = [] if done is None else next_commands(asked.search, store, done)
    computed = Computed(rows, len(rows), stopped=stopped)
    return StudyResult(title, store.folder, computed, found, (), tuple(commands))


def write(asked: Asked, store: Store, rows: list[Row], found: Outcome, title: str) -> None:
    """Table, page and the settings that were found."""
    write_tables(rows, store.folder)
    store.write("verdict.json", {**found.verdict.to_json(), "facts": dict(found.facts)})
    name = asked.search.plan.splits.name
    spent = clock(sum(row.cost["cell_secs"] for row in rows))
    told = [("data", name), ("trials", str(len(rows))), ("time of all trials", spent)]
    write_page(store.folder, title, found, rows, told, asked.command)
    write_markdown(store.folder, title, found, told, asked.command)
    if (best := best_of(rows)) is not None:
        store.write_text(BEST, findings.chosen_toml(best))


def next_commands(asked: Search, store: Store, best: Row) -> list[str]:
    """What to do with the best trial."""
    train = ["vitrail", "train", str(asked.plan.config.data.path)]
    return [
        command_text([*train, "--config", str(store.folder / BEST)]),
        f"vitrail predict {store.folder / best.run} IMAGE",
    ]

"""`vitrail tune DATA`: try settings within a budget of time, choose by validation images.

Repeat the command to continue a killed or interrupted search; finished trials stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import ProgressLine, clock
from vitrail.cli.display.study_progress import verdict_lines
from vitrail.cli.settings import layers_of
from vitrail.errors import UsageError, check_numbers
from vitrail.spelling import command_text, count

if TYPE_CHECKING:
    from vitrail.studies.engine.row import Row
    from vitrail.studies.engine.store import Store
    from vitrail.studies.tuning.search import Length, Search
    from vitrail.studies.tuning.trial import Say, Trial

app = app_of("vitrail tune")
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


@app.default
def tune(
    data: str,
    /,
    *,
    over: list[str] | None = None,
    budget: str = "30m",
    trials: int | None = None,
    config: Path | None = None,
    out: Path = Path("tune"),
    output: Annotated[Output, Parameter(parse=False)],
    settings: Annotated[Any, Parameter(parse=False)],
) -> int:
    """Search for better settings within a time budget, by validation images alone.

    Parameters
    ----------
    data
        Images, as for vitrail train.
    over
        A setting and its range, once or more: optim.lr=1e-4..1e-2, augment.policy=none,randaugment.
        Default: rate, decay of weights and label smoothing, around what train would take.
    budget
        How long it may take, 20m or 2h.
    trials
        How many trials instead of as many as the budget has time for.
    config
        Settings of all trials in a TOML file.
    out
        Folder of searches.
    """
    from vitrail.config import check_unit, parse_secs
    from vitrail.studies.engine.store import open_store, question_of
    from vitrail.studies.tuning.search import Limit, load_optuna, plan_search, search
    from vitrail.studies.tuning.space import ranges_of

    check_numbers({"--trials": trials} if trials is not None else {})
    check_unit("--budget", budget)
    seconds = parse_secs(budget)
    if not isinstance(seconds, float) or not seconds > 0:
        raise UsageError("VIT-202", f"--budget {budget}: expected a time.", hint="Use 20m or 2h")
    load_optuna()
    asked = plan_search(layers_of(data, config, settings), ranges_of(over or []))
    for sentence in asked.said:
        output.note(f"data: {sentence}")
    store = open_store(out, asked.plan.splits.name, question_of(asked.facts()))
    with store.lock():
        length = length_of(asked, seconds, store, output)
        watcher = TuneWatcher(output)
        try:
            stopped = search(asked, length, Limit(seconds, trials), store, watcher)
        finally:
            watcher.close()
        return conclude(asked, store, stopped, output)


def length_of(asked: Search, budget_secs: float, store: Store, output: Output) -> Length:
    """How long trials are: as they were in a search that is continued."""
    from vitrail.studies.tuning.search import Length, measure

    record = store.record()
    is_new = "own" not in record
    if is_new:
        length = measure(asked, budget_secs)
        record |= {**asked.facts(), "own": dict(length.own), "steps": length.steps}
        record |= {"trial_secs": length.secs}
        store.write("study.json", {**record, "command": output.command, "test": []})
    else:
        length = Length(record["own"], int(record["steps"]), float(record["trial_secs"]))
    kept = len(store.rows())
    for line in (
        f"folder {store.folder} ({'new' if is_new else 'continued'})",
        *(f"over   {one.name} {_shown(one)}" for one in asked.ranges),
        f"trials of about {clock(length.secs)} each"
        + (f"; {count(kept, 'trial')} finished before" if kept else ""),
    ):
        output.note(line)
    return length


def _shown(one: Any) -> str:
    if one.choices:
        return ", ".join(map(str, one.choices))
    return f"{one.low:g} to {one.high:g}{' (logarithmic)' if one.is_log else ''}"


class TuneWatcher:
    """A line a trial, on a terminal a bar for the running one."""

    def __init__(self, output: Output) -> None:
        self.bar = ProgressLine(output)

    def trial(self, trial: Trial) -> Say:
        """Move the bar."""

        def say(share: float) -> None:
            if self.bar.is_due:
                self.bar.draw(f"trial {trial.key}", share, 1.0)

        return say

    def row(self, row: Row, best: Row | None) -> None:
        """A trial's result."""
        from vitrail.studies.tuning.findings import values_of

        found = row.values.get("val/top1")
        says = row.arm if found is None else f"val/top1 {found:.4f}"
        mark = "  best" if best is not None and best.key == row.key else ""
        seconds = row.cost["cell_secs"]
        self.bar.above(f"{row.key}  {says:<15}  {seconds:5.0f} s  {values_of(row)}{mark}")

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


def conclude(asked: Search, store: Store, stopped: str | None, output: Output) -> int:
    """Look at the test images once, write tables, figures and the page; the exit code."""
    from vitrail.studies.results.markdown import write_markdown
    from vitrail.studies.results.study_page import write_page
    from vitrail.studies.results.tables import write_tables
    from vitrail.studies.tuning import findings
    from vitrail.studies.tuning.search import best_of

    rows = list(store.rows().values())
    best = best_of(rows)
    findings.keep_the_best(store, rows)
    if stopped:
        output.result(
            {"folder": store.folder, "trials": len(rows), "stopped": stopped},
            [f"stopped ({stopped}); repeat the command to continue"],
        )
        return EXIT_CODES.get(stopped, 0)
    test = findings.tested(asked, store, best) if best is not None else {}
    found = findings.outcome(asked, store, rows, test)
    write_tables(rows, store.folder)
    store.write("verdict.json", {**found.verdict.to_json(), "facts": dict(found.facts)})
    title = f"Settings for {asked.plan.splits.name}"
    told = [
        ("data", asked.plan.splits.name),
        ("trials", str(len(rows))),
        ("time of all trials", clock(sum(row.cost["cell_secs"] for row in rows))),
    ]
    command = output.command
    write_page(store.folder, title, found, rows, told, command)
    write_markdown(store.folder, title, found, told, command)
    lines = verdict_lines(found.verdict, found.tables)
    if best is not None:
        store.write_text("best.toml", findings.chosen_toml(best))
        train = ["vitrail", "train", str(asked.plan.config.data.path)]
        lines += [
            "",
            f"written  {store.folder}/study.html  best.toml  table.csv",
            f"next     {command_text([*train, '--config', str(store.folder / 'best.toml')])}",
            f"next     vitrail predict {store.folder / best.run} IMAGE",
        ]
    output.result(
        {"folder": store.folder, "verdict": found.verdict, "facts": found.facts, "stopped": None},
        lines,
    )
    return 0

"""The paper's experiments and the comparison of models, on images of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

from vitrail.api.options import MachineOptions, Machines, call_text, shows_options
from vitrail.api.study_setup import Length, Question, comparison, no_effect, question_of, study_of
from vitrail.cli.display.in_python import watcher_of
from vitrail.cli.display.study_progress import plan_lines
from vitrail.figures.plot import plot
from vitrail.notebook import open_page, paragraph, show, svg, table
from vitrail.spelling import count
from vitrail.studies import publish, run
from vitrail.studies.compute_study import Computed, Watcher
from vitrail.studies.planned import Planned
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.study_page import FILENAME


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What a study or a comparison came to. folder: table.csv, study.html, figures, the runs.
    found: the rows that were computed, and what is missing; outcome: verdict, figures, tables and
    facts. notes: what of the data is left out; next_commands: what to do with the results.
    """

    title: str
    folder: Path
    found: Computed
    outcome: Outcome
    notes: tuple[str, ...] = ()
    next_commands: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What may be concluded, with evidence and limits."""
        return self.outcome.verdict

    @property
    def tables(self) -> Mapping[str, Sequence[Sequence[str]]]:
        """By title; the first line of each is its head."""
        return self.outcome.tables

    @property
    def facts(self) -> Mapping[str, Any]:
        """Further numbers; of a comparison `choice`: the recommended model and its run."""
        return self.outcome.facts

    @property
    def page(self) -> Path:
        """The page that shows all of it."""
        return self.folder / FILENAME

    def to_json(self) -> dict[str, Any]:
        """As `vitrail study --json` and `vitrail compare --json`."""
        return {
            "folder": self.folder,
            "cells": self.found.num_cells,
            "finished": len(self.found.rows),
            "left_out": self.found.left_out,
            "orphans": self.found.orphans,
            "stopped": self.found.stopped,
            "verdict": self.verdict,
            "tables": self.tables,
            "facts": self.facts,
            "rows": [row.flat() for row in self.found.rows],
            "notes": self.notes,
        }

    def show(self, *, browser: bool = False) -> None:
        """Show verdict, figures and tables in the notebook; elsewhere print the verdict and where
        the page lies, which browser=True opens.
        """
        if browser:
            open_page(self.page)
        else:
            show(self, self.rows())

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people: the verdict with evidence and limits, and the page."""
        said = {"evidence": self.verdict.evidence, "limits": self.verdict.limits}
        more = [(name if not n else "", one) for name in said for n, one in enumerate(said[name])]
        first = [("study", self.title), ("verdict", self.verdict.answer)]
        return [*first, *more, ("page", str(self.page))]

    def __repr__(self) -> str:
        done = f"{len(self.found.rows)} of {count(self.found.num_cells, 'cell')}"
        return f"StudyResult({self.title}; {done}; {self.verdict.answer} {self.page})"

    def _repr_html_(self) -> str:
        parts = [paragraph(self.title), paragraph(self.verdict.answer)]
        parts += [svg(plot(one).file(), one.title) for one in self.figures]
        parts += [
            table(lines[1:], head=lines[0], title=title) for title, lines in self.tables.items()
        ]
        parts += [paragraph(one) for one in (*self.verdict.evidence, *self.verdict.limits)]
        return "".join([*parts, paragraph(str(self.page))])

    @property
    def figures(self) -> Sequence[Any]:
        """What was drawn, as data (`figures/plot.py`)."""
        return self.outcome.figures


@partial(shows_options, options=MachineOptions)
def compare(
    data: str | Path,
    *,
    models: Sequence[str] = (),
    from_: Sequence[str | Path] = (),
    budget: str | None = None,
    examples: int | None = None,
    seeds: int = 3,
    sizes: Sequence[int] | None = None,
    image_size: int | None = None,
    out: str | Path = "compare",
    progress: bool = True,
    **machines: Unpack[MachineOptions],
) -> StudyResult:
    """Compare architectures on `data`: learning curves and a recommendation, as `vitrail compare`.

    models: names; a small ViT, BiT-ResNet and hybrid unless given. from_: models whose weights to
    start from. budget: how long it may take, "20m" unless given; examples: images that a run of the
    first model sees, instead. seeds: runs of every model and size. sizes: numbers of training
    images. image_size: px of a side. out: folder of comparisons. machines: processes (runs in
    parallel), threads (of each), device, accumulate, engine, ray_address and
    on_bad_file ("skip" leaves out what cannot be decoded, and says so). The same call again
    continues what was stopped; nothing is computed twice.

    Raises UsageError VIT-202, VIT-212, VIT-219, VIT-221, VIT-291; DataError VIT-303 to VIT-323;
    ModelError for `from_`; EnvironmentFault VIT-504 where another process computes it.
    """
    given: dict[str, Any] = {"models": list(models), "from_": [*map(str, from_)], "budget": budget}
    given |= {"examples": examples, "seeds": seeds, "sizes": sizes, "image_size": image_size}
    question = comparison(
        str(data),
        Length(budget, examples, seeds),
        Machines(**machines),
        call_text("compare", data, {**given, **machines}),
        models=models,
        starts=[*map(str, from_)],
        sizes=sizes,
        image_size=image_size,
    )
    return _answered(question, Path(out), progress=progress)


@partial(shows_options, options=MachineOptions)
def study(
    name: str,
    data: str | Path,
    *,
    budget: str | None = None,
    examples: int | None = None,
    seeds: int = 3,
    sizes: Sequence[int] | None = None,
    transfer: str | Path | None = None,
    equal: Literal["compute", "epochs"] | None = None,
    rates: Sequence[float] | None = None,
    image_size: int | None = None,
    full: bool = False,
    out: str | Path = "studies",
    progress: bool = True,
    **machines: Unpack[MachineOptions],
) -> StudyResult:
    """Run one of the paper's experiments on `data`, as `vitrail study`.

    name: data-size, head, posemb ... or a file of your own, "mine.toml" (docs/studies). budget,
    examples, seeds, machines, out, and the same call again: as for `compare`. sizes,
    transfer (other images, for data-size), equal ("compute" or "epochs"), rates and image_size (px
    of a side): what some studies vary. full: the paper's own models and recipes.

    Raises UsageError VIT-202, VIT-212, VIT-290 to VIT-293; DataError VIT-303 to VIT-323;
    EnvironmentFault VIT-504.
    """
    choices: dict[str, Any] = {"equal": equal, "image_size": image_size}
    choices |= {"transfer": None if transfer is None else str(transfer)}
    choices |= {"rates": None if rates is None else tuple(rates)}
    given: dict[str, Any] = {"data": str(data), "budget": budget, "examples": examples}
    given |= {"seeds": seeds, "sizes": sizes, **choices, **machines}
    found = study_of(name)
    if full and not found.full:
        raise no_effect("--full", found)
    question = question_of(
        found,
        str(data),
        Length(budget, examples, seeds),
        Machines(**machines),
        call_text("study", name, given),
        choices={key: value for key, value in choices.items() if value is not None},
        sizes=sizes,
        full=full,
    )
    question.setup.check_enough()
    return _answered(question, Path(out), progress=progress)


def _answered(question: Question, out: Path, *, progress: bool) -> StudyResult:
    planned = run.plan(question.study, question.setup, question.asked, out, question.engines)
    watcher = watcher_of(question.asked.processes, question.shown, progress=progress)
    for line in plan_lines(planned, question.asked):
        watcher.bar.above(line)
    try:
        return answer(planned, question, watcher)
    finally:
        watcher.close()


def answer(
    planned: Planned, question: Question, watcher: Watcher, spent_secs: float = 0.0
) -> StudyResult:
    """Compute what is missing and conclude. spent_secs: of the budget, before."""
    found, outcome = run.run(planned, question.asked, question.engines, watcher, spent_secs)
    return StudyResult(
        planned.study.title,
        planned.store.folder,
        found,
        outcome,
        planned.setup.notes,
        tuple(publish.next_commands(planned, outcome)),
    )

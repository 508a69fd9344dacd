"""`vitrail study NAME --data DATA`: run one of the paper's experiments on your dataset.

Repeat the command to continue a killed or interrupted one; finished cells are never computed
again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrail.api.options import Machines
from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output
from vitrail.cli.study_runner import execute, numbers
from vitrail.errors import UsageError, refuse_without_effect
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.studies.compute_study import Study
    from vitrail.studies.setup import Setup

app = app_of("vitrail study")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choices:
    """What some studies vary; each says so if it does not."""

    sizes: str | None = None
    """Numbers of training images, 500,2000,8000. Default: four, up to all there are."""
    transfer: str | None = None
    """data-size: other images, for few-shot and fine-tuning after pre-training on DATA."""
    equal: Literal["compute", "epochs"] | None = None
    """data-size: what all cells have alike. Default: compute."""
    rates: str | None = None
    """head, optimizer: learning rates, 0.0005,0.001,0.002."""
    image_size: int | None = None
    """Pixels of a side. Default: the images' own up to 64, else 64; with --full 224."""


@app.default
def study(
    name: str | None = None,
    /,
    *,
    data: str | None = None,
    budget: str | None = None,
    examples: int | None = None,
    seeds: int = 3,
    choices: Choices | None = None,
    machines: Annotated[Machines | None, Parameter(name="*")] = None,
    out: Path = Path("studies"),
    full: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Run one of the paper's experiments: table, figures, and a verdict on the paper's claim.

    Parameters
    ----------
    name
        data-size, head, posemb, shape ...; all of them: --list. Or a FILE.toml of your own, whose
        tables [arms.NAME] say which settings differ.
    data
        Images, as for vitrail train.
    budget
        How long it may take, 20m or 2h; the amount of training follows from it. Default: 20m.
    examples
        The amount of training instead of a budget: images that a run of the reference model sees.
    seeds
        How many runs of every cell.
    out
        Folder of studies.
    full
        The paper's own models and recipes. Without --budget or --examples: show the cells and what
        they cost, and stop.
    dry_run
        Say how many cells there are and how long they take, and stop.
    list_
        Name the studies and stop.
    """
    if list_:
        others = {"NAME": name is not None, "--data": data is not None, "--budget": bool(budget)}
        others |= {"--examples": examples is not None, "--seeds": seeds != 3, "--full": full}
        others |= {"--out": out != Path("studies"), "--dry-run": dry_run}
        others |= {
            f"--{item.name.replace('_', '-')}": getattr(one, item.name) != item.default
            for one in (choices or Choices(), machines or Machines())
            for item in fields(one)
        }
        refuse_without_effect(others, "with --list", "Leave one of them out.")
    if list_ or name is None:
        return list_studies(name, list_, output)
    from vitrail.api.study_setup import Length, no_effect, question_of, study_of

    found = study_of(name)
    choices = choices or Choices()
    if data is None:
        raise UsageError(
            "VIT-201",
            "--data is missing: the images to learn from.",
            hint=f"For instance: vitrail study {name} --data builtin:digits",
        )
    if full and not found.full:
        raise no_effect("--full", found)
    given = {item.name: getattr(choices, item.name) for item in fields(choices)}
    given = {key: value for key, value in given.items() if value is not None}
    for key, kind in (("sizes", int), ("rates", float)):
        if key in given:
            given[key] = numbers(f"--{key}", given[key], kind)
    question = question_of(
        found,
        data,
        Length(budget, examples, seeds),
        machines or Machines(),
        output.command,
        sizes=given.pop("sizes", None),
        choices=given,
        full=full,
    )
    if full and budget is None and examples is None:
        return show_full(found, question.setup, output)
    question.setup.check_enough()
    return execute(question, out, dry_run=dry_run, output=output)


def list_studies(name: str | None, is_asked: bool, output: Output) -> int:
    """Every study with its title. Raises UsageError VIT-201 where a name was forgotten."""
    from vitrail.studies.experiments.registry import STUDIES

    if not is_asked:
        raise UsageError(
            "VIT-201", "the name of a study is missing.", hint="All of them: vitrail study --list"
        )
    width = max(map(len, STUDIES))
    record = {key: {"title": one.title, "claim": one.claim} for key, one in STUDIES.items()}
    output.result(record, [f"{key:<{width}}  {one.title}" for key, one in STUDIES.items()])
    return 0


def show_full(study: Study, setup: Setup, output: Output) -> int:
    """The cells of the paper's scale and what they cost in operations."""
    from dataclasses import replace

    from vitrail.studies.experiments.families import macs

    cells = study.cells(replace(setup, examples=FULL_EXAMPLES))
    flops = sum(
        6 * macs(cell.pace_cell().settings, setup) * cell.settings["examples"] for cell in cells
    )
    record = {"cells": len(cells), "exaflops": flops / 1e18, "scale": study.full}
    lines = [
        f"{study.name} at the paper's scale: {study.full}",
        *(f"  {cell.title}" for cell in cells),
        f"{count(len(cells), 'cell')}, {flops / 1e18:,.0f} exaFLOPs; at 150 TFLOP/s a device "
        f"{flops / 150e12 / 86400:,.0f} device-days",
        "to run them: the same with --budget, or with --examples of your own",
    ]
    output.result(record, lines)
    return 0


FULL_EXAMPLES = 300_000_000 * 7  # seven passes over JFT-300M (Table 6)

"""`vitrail study NAME --data DATA`: one of the paper's experiments on your own pictures.

The same command goes on where a killed or interrupted one was; finished cells are never computed
again.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.output import Output
from vitrail.cli.predict import check_numbers
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.studies.run import Asked, Engines, Planned
    from vitrail.studies.setup import Setup
    from vitrail.studies.study import Computed, Study

app = app_of("vitrail study", note="All studies: vitrail study --list")
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Machines:
    """Who computes the cells."""

    processes: int | None = None
    """Cells at a time on this machine. Default: its cores, or 1 with a GPU and for speed."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or a Ray cluster (extra "ray")."""
    ray_address: str = "auto"
    """The cluster: HOST:PORT, or auto for the one this machine belongs to."""
    device: str = "auto"
    """auto, cpu, cuda."""
    threads: int = 1
    """Threads of each cell; a row can depend on it in the last bits."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choices:
    """What some studies vary; each says so if it does not."""

    sizes: str | None = None
    """Numbers of training pictures, 500,2000,8000. Default: four, up to all there are."""
    transfer: str | None = None
    """data-size: other pictures, for few-shot and fine-tuning after pre-training on DATA."""
    equal: Literal["compute", "epochs"] | None = None
    """data-size: what all cells have alike. Default: compute."""
    rates: str | None = None
    """head, optimizer: learning rates, 0.0005,0.001,0.002."""
    image_size: int | None = None
    """Pixels of a side. Default: the pictures' own up to 64, else 64."""


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
    machines: Machines | None = None,
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
        data-size, head, posemb, shape ...; all of them: --list
    data
        Pictures, as for vitrail train.
    budget
        How long it may take, 20m or 2h; the amount of training follows from it. Default: 20m.
    examples
        The amount of training instead of a budget: pictures that a run of the reference model sees.
    seeds
        How many runs of every cell.
    out
        Folder of studies.
    full
        The paper's own scale, for --dry-run or a cluster.
    dry_run
        Say how many cells there are and how long they take, and stop.
    list_
        Name the studies and stop.
    """
    from vitrail.studies.catalogue import study_named

    if list_ or name is None:
        return list_studies(name, list_, output)
    found = study_named(name)
    choices, machines = choices or Choices(), machines or Machines()
    counts = {
        "--examples": examples, "--seeds": seeds, "--threads": machines.threads,
        "--processes": machines.processes, "--image-size": choices.image_size,
    }  # fmt: skip
    check_numbers({option: value for option, value in counts.items() if value is not None})
    if data is None:
        raise UsageError(
            "VIT-201",
            "--data is missing: the pictures to learn from.",
            hint=f"For instance: vitrail study {name} --data builtin:digits",
        )
    began = time.monotonic()
    setup = setup_of(found, data, choices, machines, seeds, full)
    asked = asked_of(budget, examples, machines, setup, is_alone=found.is_alone)
    if full:
        return show_full(found, setup, output)
    return execute(found, setup, asked, engines_of(machines, asked, setup), out, began,
                   dry_run=dry_run, output=output)  # fmt: skip


def list_studies(name: str | None, is_asked: bool, output: Output) -> int:
    """Every study with its title. Raises UsageError VIT-201 where a name was forgotten."""
    from vitrail.studies.catalogue import STUDIES

    if not is_asked:
        raise UsageError("VIT-201", "the name of a study is missing.",
                         hint="All of them: vitrail study --list")  # fmt: skip
    width = max(map(len, STUDIES))
    record = {key: {"title": one.title, "claim": one.claim} for key, one in STUDIES.items()}
    output.result(record, [f"{key:<{width}}  {one.title}" for key, one in STUDIES.items()])
    return 0


def setup_of(
    study: Study, data: str, choices: Choices, machines: Machines, seeds: int, is_full: bool
) -> Setup:
    """What the cells follow from. Raises UsageError VIT-293 for an option the study lacks."""
    from dataclasses import replace

    from vitrail.device import pick_device
    from vitrail.studies.setup import nested_sizes, open_setup

    given = {item.name: getattr(choices, item.name) for item in fields(choices)}
    given = {key: value for key, value in given.items() if value is not None}
    known = {*study.choices, "image_size", *(("sizes",) if study.has_sizes else ())}
    for key in given:
        if key not in known:
            option = "--" + key.replace("_", "-")
            raise UsageError(
                "VIT-293",
                f"{option} has no effect on the study {study.name}.",
                hint="Leave it out.",
            )
    sizes, transfer = given.pop("sizes", None), given.pop("transfer", "")
    if "rates" in given:
        given["rates"] = numbers("--rates", given["rates"], float)
    setup = open_setup(
        data, transfer, examples=0, seeds=tuple(range(seeds)), is_full=is_full,
        device=str(pick_device(machines.device)), threads=machines.threads,
        choices={key: value for key, value in study.choices.items() if key != "transfer"} | given,
    )  # fmt: skip
    if not study.has_sizes:
        return setup
    if sizes is None:
        return replace(setup, sizes=nested_sizes(setup.num_train, setup.num_classes))
    found = tuple(sorted(set(numbers("--sizes", sizes, int))))
    if found[0] < setup.num_classes or found[-1] > setup.num_train:
        raise UsageError(
            "VIT-202",
            f"--sizes {sizes}: {setup.name} has {setup.num_train} training pictures of "
            f"{setup.num_classes} classes.",
            hint=f"Use numbers from {setup.num_classes} to {setup.num_train}, or leave it out.",
        )
    return replace(setup, sizes=found)


def numbers(option: str, text: str, kind: type) -> tuple[Any, ...]:
    """Numbers from "1,5,10". Raises UsageError VIT-202."""
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError("VIT-202", f"{option} {text}: expected numbers with commas between.",
                         hint=f"For instance {option} 1,5") from error  # fmt: skip
    if min(found) <= 0:
        raise UsageError("VIT-202", f"{option} {text}: expected numbers above 0.")
    return found


def asked_of(
    budget: str | None,
    examples: int | None,
    machines: Machines,
    setup: Setup,
    *,
    is_alone: bool = False,
) -> Asked:
    """Budget and processes. Raises UsageError VIT-202."""
    from vitrail.config import parse_secs
    from vitrail.device import num_cores
    from vitrail.studies.run import Asked

    seconds = parse_secs(budget if budget is not None else "20m")
    if not isinstance(seconds, float) or not seconds > 0:
        raise UsageError("VIT-202", f"--budget {budget}: expected a time.", hint="Use 20m or 2h")
    if examples is not None and budget is None:
        seconds = None
    one_at_a_time = is_alone or setup.device != "cpu"
    processes = machines.processes or (
        1 if one_at_a_time else max(1, num_cores() // machines.threads)
    )
    return Asked(seconds, examples, processes, shlex.join(["vitrail", *sys.argv[1:]]))


def engines_of(machines: Machines, asked: Asked, setup: Setup) -> Engines:
    """Who computes."""
    from vitrail.studies.run import local

    if machines.engine == "local":
        return local(asked.processes)
    from vitrail.studies.ray_engine import RayEngine

    gpus = 0 if setup.device == "cpu" else 1
    return lambda store: RayEngine(machines.ray_address, machines.threads, gpus)


def execute(
    study: Study,
    setup: Setup,
    asked: Asked,
    engines: Engines,
    out: Path,
    began: float,
    *,
    dry_run: bool,
    output: Output,
    shown: str = "test/top1",
) -> int:
    """Plan, compute, conclude; the exit code. shown: the value a finished cell is told with."""
    from vitrail.cli.watching import verdict_lines, watcher_for
    from vitrail.studies import run

    if dry_run:
        return show_plan(study, setup, asked, engines, output)
    run.check_extras()
    output.note(f"{study.name}: {study.title}")
    planned = run.plan(study, setup, asked, out, engines)
    for line in plan_lines(planned, asked):
        output.note(line)
    watcher = watcher_for(output, asked.processes, shown)
    try:
        found, outcome = run.run(planned, asked, engines, watcher, time.monotonic() - began)
    finally:
        watcher.close()
    folder = planned.store.folder
    record = {
        "folder": folder, "cells": found.num_cells, "finished": len(found.rows),
        "left_out": found.left_out, "stopped": found.stopped, "verdict": outcome.verdict,
        "tables": outcome.tables, "facts": outcome.facts,
        "rows": [row.flat() for row in found.rows],
    }  # fmt: skip
    lines = verdict_lines(outcome.verdict, outcome.tables)
    commands = [f"next     {one}" for one in run.next_commands(planned, outcome)]
    output.result(record, [*lines, "", *ending(found, folder), *commands])
    return EXIT_CODES.get(found.stopped or "", 0)


def plan_lines(planned: Planned, asked: Asked) -> list[str]:
    """What is about to be done."""
    setup = planned.setup
    words = "new" if planned.is_new else "continued"
    return [
        f"data   {setup.name}: {setup.num_train:,} training pictures, "
        f"{setup.num_classes} classes; models see {setup.image_size[0]}x{setup.image_size[1]} px",
        f"plan   {len(planned.cells)} cells, {len(setup.seeds)} seeds; the reference model sees "
        f"{setup.examples:,} pictures a cell; {asked.processes} at a time",
        f"folder {planned.store.folder} ({words})",
    ]


def ending(found: Computed, folder: Path) -> list[str]:
    """Where the results are, and how to go on."""
    lines = [f"written  {folder}/study.html  table.csv  table.parquet  figures as PNG and SVG"]
    missing = found.num_cells - len(found.rows)
    if found.stopped:
        lines.append(f"stopped ({found.stopped}); the same command goes on")
    elif missing:
        lines.append(f"{missing} cells are missing for lack of time; the same command goes on")
    return lines


def show_plan(study: Study, setup: Setup, asked: Asked, engines: Engines, output: Output) -> int:
    """The number of cells and the time they take, without computing any."""
    import tempfile

    from vitrail.cli.console import clock
    from vitrail.studies import run

    with tempfile.TemporaryDirectory() as folder:
        planned = run.plan(study, setup, asked, Path(folder), engines)
    seconds = planned.seconds(asked.processes)
    record = {"cells": len(planned.cells), "seconds": seconds,
              "examples": planned.setup.examples, "processes": asked.processes}  # fmt: skip
    titles = [f"  {cell.title}" for cell in planned.cells] if output.verbose else []
    lines = [
        *plan_lines(planned, asked)[:2],
        *titles,
        f"takes  about {clock(seconds)} with {asked.processes} processes",
    ]
    output.result(record, lines)
    output.note("dry run: nothing was kept or written")
    return 0


def show_full(study: Study, setup: Setup, output: Output) -> int:
    """The cells of the paper's scale and what they cost in operations."""
    from dataclasses import replace

    from vitrail.studies.families import macs

    cells = study.cells(replace(setup, examples=FULL_EXAMPLES))
    flops = sum(
        6 * macs(cell.pace_cell().settings, setup) * cell.settings["examples"] for cell in cells
    )
    record = {"cells": len(cells), "exaflops": flops / 1e18, "scale": study.full}
    lines = [f"{study.name} at the paper's scale: {study.full}",
             *(f"  {cell.title}" for cell in cells),
             f"{len(cells)} cells, {flops / 1e18:,.0f} exaFLOPs; at 150 TFLOP/s a device "
             f"{flops / 150e12 / 86400:,.0f} device-days"]  # fmt: skip
    output.result(record, lines)
    return 0


FULL_EXAMPLES = 300_000_000 * 7  # seven passes over JFT-300M (Table 6)

"""What `vitrail study` and `vitrail compare` share: who computes, the plan, the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from vitrail.cli.arguments import check_numbers
from vitrail.cli.display.output import Output
from vitrail.errors import UsageError
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.studies.compute_study import Computed, Study
    from vitrail.studies.planned import Planned
    from vitrail.studies.run import Engines, StudyRequest
    from vitrail.studies.setup import Setup

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}
LITTLE = 0.5  # share of the time that goes into training


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Machines:
    """Who computes the cells."""

    processes: int | None = None
    """Runs in parallel on this machine. Default: its cores, or 1 with a GPU and for speed."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or a Ray cluster (extra "ray")."""
    ray_address: str = "auto"
    """The cluster: HOST:PORT, or auto for the one this machine belongs to."""
    device: str = "auto"
    """auto, cpu, cuda."""
    threads: int = 1
    """Threads of each cell; a row can depend on it in the last bits."""
    accumulate: int = 1
    """Gradient accumulation: parts of a batch, computed in turn for less memory; as --threads."""


def numbers(option: str, text: str, kind: type) -> tuple[Any, ...]:
    """Numbers from "1,5,10". Raises UsageError VIT-202."""
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            "VIT-202",
            f"{option} {text}: expected numbers with commas between.",
            hint=f"For instance {option} 1,5",
        ) from error
    if min(found) <= 0:
        raise UsageError("VIT-202", f"{option} {text}: expected numbers above 0.")
    return found


def check_counts(
    examples: int | None, seeds: int, image_size: int | None, machines: Machines
) -> None:
    """Raises UsageError VIT-202 for a number that is not above 0."""
    counts = {
        "--examples": examples,
        "--seeds": seeds,
        "--image-size": image_size,
        "--processes": machines.processes,
        "--threads": machines.threads,
        "--accumulate": machines.accumulate,
    }
    check_numbers({option: value for option, value in counts.items() if value is not None})


def asked_of(
    budget: str | None,
    examples: int | None,
    machines: Machines,
    setup: Setup,
    output: Output,
    *,
    is_alone: bool = False,
) -> StudyRequest:
    """Budget and processes. Raises UsageError VIT-202, VIT-212."""
    from vitrail.config import check_unit, parse_secs
    from vitrail.device import num_cores
    from vitrail.studies.run import StudyRequest

    check_unit("--budget", budget)
    seconds = parse_secs(budget if budget is not None else "20m")
    if not isinstance(seconds, float) or not seconds > 0:
        raise UsageError("VIT-202", f"--budget {budget}: expected a time.", hint="Use 20m or 2h")
    if examples is not None and budget is None:
        seconds = None
    one_at_a_time = is_alone or setup.device != "cpu"
    processes = machines.processes or (
        1 if one_at_a_time else max(1, num_cores() // machines.threads)
    )
    return StudyRequest(seconds, examples, processes, output.command)


def engines_of(machines: Machines, asked: StudyRequest, setup: Setup) -> Engines:
    """Who computes."""
    from vitrail.studies.run import local

    if machines.engine == "local":
        return local(asked.processes)
    from vitrail.studies.engine.ray_engine import RayEngine

    gpus = 0 if setup.device == "cpu" else 1
    return lambda store: RayEngine(machines.ray_address, machines.threads, gpus)


def execute(
    study: Study,
    setup: Setup,
    asked: StudyRequest,
    engines: Engines,
    out: Path,
    *,
    dry_run: bool,
    output: Output,
    shown: str = "test/top1",
) -> int:
    """Plan, compute, conclude; the exit code. shown: the value a finished cell is told with."""
    from vitrail.cli.display.study_progress import StudyWatcher, verdict_lines
    from vitrail.studies import publish, run

    if dry_run:
        return show_plan(study, setup, asked, engines, output)
    output.note(f"{study.name}: {study.title}")
    planned = run.plan(study, setup, asked, out, engines)
    words = "new" if planned.is_new else "continued"
    for line in [*plan_lines(planned, asked), f"folder {planned.store.folder} ({words})"]:
        output.note(line)
    watcher = StudyWatcher(output, asked.processes, shown)
    try:
        found, outcome = run.run(planned, asked, engines, watcher, output.age_secs)
    finally:
        watcher.close()
    folder = planned.store.folder
    record = {
        "folder": folder,
        "cells": found.num_cells,
        "finished": len(found.rows),
        "left_out": found.left_out,
        "orphans": found.orphans,
        "stopped": found.stopped,
        "verdict": outcome.verdict,
        "tables": outcome.tables,
        "facts": outcome.facts,
        "rows": [row.flat() for row in found.rows],
        "notes": planned.setup.notes,
    }
    lines = verdict_lines(outcome.verdict, outcome.tables)
    commands = [f"next     {one}" for one in publish.next_commands(planned, outcome)]
    output.result(record, [*lines, "", *ending(found, folder), *commands])
    return EXIT_CODES.get(found.stopped or "", 0)


def plan_lines(planned: Planned, asked: StudyRequest) -> list[str]:
    """What is about to be done."""
    setup, share = planned.setup, planned.training_share
    lines = [
        f"data   {setup.name}: {count(setup.num_train, 'training image')}, "
        f"{count(setup.num_classes, 'class')}; models see "
        f"{setup.image_size[0]}x{setup.image_size[1]} px",
        f"plan   {count(len(planned.cells), 'cell')}, {count(len(setup.seeds), 'seed')}; the "
        "reference model sees "
        f"{count(setup.examples, 'image')} a cell; {asked.processes} at a time",
        *(f"data   {note}" for note in setup.notes),
    ]
    if share < LITTLE and not planned.study.is_alone:
        lines.append(
            f"note   only {share:.0%} of the time goes into training, the rest into opening data "
            "and judging: twice the --budget trains far more than twice as long"
        )
    return lines


def ending(found: Computed, folder: Path) -> list[str]:
    """Where the results are, and how to go on."""
    parquet = "  table.parquet" * (folder / "table.parquet").exists()
    lines = [f"written  {folder}/study.html  table.csv{parquet}  figures as PNG and SVG"]
    if found.orphans:
        lines.append(f"cells missing because what they start from diverged: {found.orphans}")
    if found.stopped:
        lines.append(f"stopped ({found.stopped}); repeat the command to continue")
    elif found.left_out:
        lines.append(
            f"{count(found.left_out, 'run')} did not fit the time budget; repeat the command "
            "to continue"
        )
    return lines


def show_plan(
    study: Study, setup: Setup, asked: StudyRequest, engines: Engines, output: Output
) -> int:
    """The number of cells and the time they take, without computing any."""
    import tempfile

    from vitrail.cli.display.progress import clock
    from vitrail.studies import run

    with tempfile.TemporaryDirectory() as folder:
        planned = run.plan(study, setup, asked, Path(folder), engines)
    seconds = planned.seconds(asked.processes)
    record = {
        "cells": len(planned.cells),
        "seconds": seconds,
        "examples": planned.setup.examples,
        "processes": asked.processes,
    }
    titles = [f"  {cell.title}" for cell in planned.cells] if output.verbose else []
    lines = [
        *plan_lines(planned, asked),
        *titles,
        f"takes  about {clock(seconds)} with {count(asked.processes, 'process')}",
    ]
    output.result(record, lines)
    output.note("dry run: nothing was kept or written")
    return 0

"""What `vitrail study` and `vitrail compare` share: the plan, the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.cli.display.output import Output
from vitrail.errors import UsageError
from vitrail.spelling import count

if TYPE_CHECKING:
    from vitrail.api.study_setup import Question
    from vitrail.studies.compute_study import Computed

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


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


def execute(question: Question, out: Path, *, dry_run: bool, output: Output) -> int:
    """Plan, compute, conclude; the exit code."""
    from vitrail.api.studies import answer
    from vitrail.cli.display.study_progress import StudyWatcher, plan_lines, verdict_lines
    from vitrail.studies import run

    if dry_run:
        return show_plan(question, output)
    study, setup, asked, engines = question.study, question.setup, question.asked, question.engines
    output.note(f"{study.name}: {study.title}")
    planned = run.plan(study, setup, asked, out, engines)
    words = "new" if planned.is_new else "continued"
    for line in [*plan_lines(planned, asked), f"folder {planned.store.folder} ({words})"]:
        output.note(line)
    watcher = StudyWatcher(output, asked.processes, question.shown)
    try:
        result = answer(planned, question, watcher, output.age_secs)
    finally:
        watcher.close()
    lines = verdict_lines(result.verdict, result.tables)
    commands = [f"next     {one}" for one in result.next_commands]
    output.result(result.to_json(), [*lines, "", *ending(result.found, result.folder), *commands])
    return EXIT_CODES.get(result.found.stopped or "", 0)


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


def show_plan(question: Question, output: Output) -> int:
    """The number of cells and the time they take, without computing any."""
    import tempfile

    from vitrail.cli.display.progress import clock
    from vitrail.cli.display.study_progress import plan_lines
    from vitrail.studies import run

    study, setup, asked, engines = question.study, question.setup, question.asked, question.engines
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

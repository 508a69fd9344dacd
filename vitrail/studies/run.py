"""From a study's name to its results on the disk: plan, compute, conclude."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitrail import __version__
from vitrail.studies.budget import (
    Paces,
    examples_for,
    paces_from,
)
from vitrail.studies.compute_study import Computed, Study, Watcher, compute, measure_paces
from vitrail.studies.engine.cell import needed
from vitrail.studies.engine.processes import Engine, LocalEngine
from vitrail.studies.engine.store import Store, open_store, question_of
from vitrail.studies.guard import guarded, outside
from vitrail.studies.planned import Planned
from vitrail.studies.publish import write_results
from vitrail.studies.results.result import Outcome
from vitrail.studies.setup import Setup

Engines = Callable[[Store], Engine]


@dataclass(frozen=True)
class StudyRequest:
    """Beside the setup. budget_secs: None for as long as it takes with `examples`. processes: how
    many cells at a time.
    """

    budget_secs: float | None
    examples: int | None
    processes: int
    command: str
    folder: str = ""  # name of the study's folder; "": that of the study


def plan(study: Study, setup: Setup, asked: StudyRequest, parent: Path, engine: Engines) -> Planned:
    """The folder, the pace, and how much training the budget buys; what was planned before stays.

    Raises UsageError VIT-291 for a budget too short, EnvironmentFault VIT-504 where another process
    computes this study, and what the first step of a run would raise.
    """
    store = open_store(parent, asked.folder or study.name, question_of(_facts(study, setup, asked)))
    with store.lock():
        record = store.record()
        if is_new := "paces" not in record:
            began = time.monotonic()
            paces: Paces = measure(study, setup, store, engine)
            simple = outside(study, setup)
            setup = _with_examples(study, setup, asked, paces, time.monotonic() - began)
        else:
            paces = paces_from(record["paces"])
            setup = replace(setup, examples=int(record["examples"]))
            simple = record["simple"] if "simple" in record else outside(study, setup)
        planned = Planned(study, setup, store, needed(study.cells(setup)), paces, is_new, simple)
        if is_new:
            store.write("study.json", _record(planned, asked))
    return planned


def measure(study: Study, setup: Setup, store: Store, engine: Engines) -> Paces:
    """Of every kind of cell, by workers of the kind that will compute them."""
    workers = engine(store)
    try:
        return measure_paces(
            study.cells(replace(setup, examples=10_000)), study.name, setup, store, workers
        )
    finally:
        workers.close()


def _with_examples(
    study: Study, setup: Setup, asked: StudyRequest, paces: Paces, spent_secs: float
) -> Setup:
    if asked.examples is not None:
        return replace(setup, examples=asked.examples)
    assert asked.budget_secs is not None
    found = examples_for(
        lambda examples: study.cells(replace(setup, examples=examples)),
        paces,
        asked.budget_secs,
        asked.processes,
        spent_secs,
    )
    return replace(setup, examples=found)


def _facts(study: Study, setup: Setup, asked: StudyRequest) -> dict[str, Any]:
    """What makes a question: the same is continued, another gets a folder of its own."""
    return {
        "study": study.name,
        "fingerprint": setup.fingerprint,
        "seeds": setup.seeds,
        "sizes": setup.sizes,
        "choices": dict(setup.choices),
        "is_full": setup.is_full,
        "device": setup.device,
        "threads": setup.threads,
        "examples": asked.examples,
        **({"accumulate": setup.accumulate} if setup.accumulate > 1 else {}),
        **({} if setup.on_bad_file == "stop" else {"on_bad_file": setup.on_bad_file}),
    }


def _record(planned: Planned, asked: StudyRequest) -> dict[str, Any]:
    setup = planned.setup
    facts = _facts(planned.study, setup, asked)
    return {
        "schema": 1,
        "question": question_of(facts),
        **facts,
        "data": setup.data,
        "transfer": setup.transfer,
        "examples": setup.examples,
        "budget_secs": asked.budget_secs,
        "command": asked.command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"vitrail": __version__},
        "simple": dict(planned.simple),
        "paces": {key: asdict(one) for key, one in planned.paces.items()},
        "cells": {cell.key(setup.fingerprint): cell.title for cell in planned.cells},
    }


def run(
    planned: Planned,
    asked: StudyRequest,
    engine: Engines,
    watcher: Watcher,
    spent_secs: float = 0.0,
) -> tuple[Computed, Outcome]:
    """Compute what is missing and write what follows from all rows.

    spent_secs: of the budget, before. Raises the first error of a cell that is no result.
    """
    store = planned.store
    budget = None if asked.budget_secs is None else asked.budget_secs - spent_secs
    with store.lock():
        found = compute(
            planned.cells,
            planned.study.name,
            planned.setup,
            store,
            engine(store),
            planned.paces,
            budget,
            watcher,
        )
        outcome = guarded(
            planned.study.outcome(planned.setup, found.rows),
            found.rows,
            planned.study.judged_by,
            planned.setup.num_classes,
            planned.simple,
        )
        write_results(planned, found, outcome)
    return found, outcome


def local(processes: int) -> Engines:
    """Workers on this machine."""
    return lambda store: LocalEngine(processes, store.folder / "log.txt")

"""What is written of a study: tables, figures, verdict, pages, and the command that repeats it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.config import flatten
from vitrail.folder import Folder
from vitrail.runs.documents import settings_in
from vitrail.settings.toml_file import toml_lines
from vitrail.spelling import command_text, count
from vitrail.studies.compute_study import Computed
from vitrail.studies.planned import Planned
from vitrail.studies.results.result import Outcome
from vitrail.studies.setup import Setup

OPTIONS = {"starts": "--from"}  # where an option has another name than the choice


def write_results(planned: Planned, found: Computed, outcome: Outcome) -> None:
    """Tables, figures, verdict.json, study.html and study.md."""
    from vitrail.studies.results.markdown import write_markdown
    from vitrail.studies.results.study_page import write_page
    from vitrail.studies.results.tables import write_tables

    folder, store = planned.store.folder, planned.store
    write_tables(found.rows, folder)
    _write_chosen(planned, found, outcome)
    store.write("verdict.json", {**outcome.verdict.to_json(), "facts": dict(outcome.facts)})
    told, command = facts(planned, found), rerun(planned)
    write_page(folder, planned.study.title, outcome, found.rows, told, command)
    write_markdown(folder, planned.study.title, outcome, told, command)


def _write_chosen(planned: Planned, found: Computed, outcome: Outcome) -> None:
    """chosen.toml: the settings of the recommended model, for a longer run."""
    choice = outcome.facts.get("choice")
    if not choice:
        return
    folder = planned.store.folder
    ours = ("data.path", "data.train_pictures", "data.split_seed", "data.workers")
    settings = flatten(settings_in(Folder(folder / choice["run"])) or {})
    kept = {
        key: value
        for key, value in settings.items()
        if key not in (*ours, "examples", "seed", "threads", "device", "precision")
        and not key.endswith("_every_epochs")
    }
    planned.store.write_text("chosen.toml", toml_lines(kept))


def facts(planned: Planned, found: Computed) -> list[tuple[str, str]]:
    """What a reader should know of how it was made, as (name, value)."""
    setup = planned.setup
    seconds = sum(row.cost.get("cell_secs", 0.0) for row in found.rows)
    listed = [
        ("data", f"{setup.name}, {count(setup.num_train, 'training image')}"),
        ("cells", f"{len(found.rows)} of {found.num_cells}"),
        ("seeds", ", ".join(map(str, setup.seeds))),
        ("images seen by the reference", f"{setup.examples:,}"),
        ("time of all cells", f"{seconds / 60:.0f} min on {setup.threads} thread each"),
    ]
    machines = dict.fromkeys(row.made.get("machine", "") for row in found.rows)
    listed.append(("machine", "; ".join(machines)))
    if planned.study.full:
        listed.append(("at the paper's scale", planned.study.full))
    return listed


def rerun(planned: Planned) -> str:
    """The command that computes the same rows anywhere."""
    setup = planned.setup
    words = ["vitrail", planned.study.verb, _data_name(setup)]
    if planned.study.verb == "study":
        name = planned.study.file or planned.study.name
        words = ["vitrail", "study", name, "--data", _data_name(setup)]
    if setup.transfer:
        words += ["--transfer", setup.transfer]
    words += ["--examples", str(setup.examples), "--seeds", str(len(setup.seeds))]
    if planned.study.has_sizes:
        words += ["--sizes", ",".join(map(str, setup.sizes))]
    if setup.is_full:
        words.append("--full")
    for option, number in (("--threads", setup.threads), ("--accumulate", setup.accumulate)):
        words += [option, str(number)] if number > 1 else []
    words += [] if setup.on_bad_file == "stop" else ["--on-bad-file", setup.on_bad_file]
    for key, value in _other_choices(planned.study.choices, setup.choices).items():
        words += [OPTIONS.get(key, f"--{key.replace('_', '-')}"), _typed(value)]
    return command_text(words)


def _data_name(setup: Setup) -> str:
    return setup.data if setup.data.startswith(("builtin:", "hf:")) else setup.name


def _typed(value: Any) -> str:
    """As it is typed: 1,2,3 for several."""
    if isinstance(value, tuple):
        return ",".join(str(getattr(one, "path", one)) for one in value)
    return str(value)


def _other_choices(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value != default.get(key)}


def next_commands(planned: Planned, outcome: Outcome) -> list[str]:
    """What to do with the results."""
    choice = outcome.facts.get("choice")
    if not choice:
        return []
    run_dir = planned.store.folder / choice["run"]
    settings = planned.store.folder / "chosen.toml"
    return [
        f"vitrail predict {run_dir} IMAGE",
        f"vitrail report {run_dir}",
        f"vitrail train {_data_name(planned.setup)} --config {settings} --time-limit 1h",
    ]

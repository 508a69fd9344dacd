"""The public names: what `dir` shows, what an editor completes, and folders that can be called."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import vitrail
from benchmarks.python_page import COMMANDS, OPTIONS
from vitrail.api.options import TrainOptions
from vitrail.cli.registry import VERBS, option_names
from vitrail.config import FIELDS, SHORT
from vitrail.errors import UsageError

FUNCTIONS = [name for name in vitrail.__all__ if name.islower() and name != "errors"]
OF_A_COMMAND = {name for names in COMMANDS.values() for name in names.split() if name.islower()}


def test_dir_shows_the_public_names_and_loads_nothing() -> None:
    program = (
        "import sys, vitrail; names = dir(vitrail); print(set(vitrail.__all__) <= set(names), "
        "'import_module' in names, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"True", b"False", b"False"]


def test_every_command_of_the_list_is_a_function_with_documented_errors() -> None:
    assert OF_A_COMMAND | {"train", "resume", "load"} <= set(FUNCTIONS)
    for name in OF_A_COMMAND | {"train", "resume", "load"}:
        function = getattr(vitrail, name)
        function = getattr(function, "function", function)
        signature = inspect.signature(function)
        assert "Raises" in (function.__doc__ or ""), name
        for one in signature.parameters.values():
            assert one.annotation is not one.empty, (name, one)
            assert one.kind is not one.VAR_KEYWORD, f"{name}: an editor cannot complete **{one}"


def test_every_command_has_something_in_python() -> None:
    assert set(COMMANDS) == set(VERBS) - {"completion"}, "completion is of shells alone"
    for names in COMMANDS.values():
        for name in names.split():
            found: object = vitrail
            for part in name.split("."):
                found = getattr(found, part)
            assert callable(found), name


@pytest.mark.parametrize("options", OPTIONS.values())
def test_the_options_of_a_function_are_those_of_its_command(options: type) -> None:
    if options is TrainOptions:
        return  # below
    verbs = ("serve",) if options.__name__ == "ServeOptions" else ("predict", "probe")
    of_verb = {
        name.strip("-").replace("-", "_")
        for verb in verbs
        for name in option_names(import_module(VERBS[verb].module).app)
    }
    ours = {"given": "set", "name_map": "map"}  # as vitrail.load has them
    assert {ours.get(name, name) for name in options.__annotations__} <= of_verb


def test_the_options_of_train_are_those_of_the_command() -> None:
    names = {name.rstrip("_") for name in TrainOptions.__annotations__}
    undotted = {key for key in FIELDS if "." not in key} - set(SHORT.values())
    assert names == undotted | set(SHORT)
    shown = inspect.signature(vitrail.train).parameters
    assert set(TrainOptions.__annotations__) < set(shown)


@pytest.mark.parametrize("before", ["", "import vitrail.runs.listing; "])
def test_a_folder_is_a_function_whatever_was_imported_before(before: str, tmp_path: Path) -> None:
    program = (
        f"{before}import vitrail; print(vitrail.runs({str(tmp_path)!r})); "
        "import vitrail.runs.listing; from vitrail.runs.listing import list_runs; "
        "import inspect; print(vitrail.runs.listing.list_runs is list_runs, "
        "*inspect.signature(vitrail.runs).parameters)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == ["0 runs", "True folder"]


def test_an_unknown_option_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"VIT-211.*epochs"):
        vitrail.train("builtin:digits", runs_dir=tmp_path, epoch=3)  # type: ignore[call-arg]
    assert list(tmp_path.iterdir()) == []

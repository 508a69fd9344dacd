"""docs/cli.md and docs/errors.md against the parser and the source, both ways (promise U3)."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from benchmarks.settings_page import page
from tests.cli.cli_command import run
from vitrail.cli.registry import GLOBAL, HIDDEN, VERBS, commands, setting_options
from vitrail.config import FIELDS, TrainConfig, fields_of, meaning
from vitrail.models.names import CONFIGS

ROOT = Path(__file__).resolve().parents[2]
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
CODE = re.compile(r"VIT-\d{3}")


def sections(text: str) -> dict[str, str]:
    """The text below each `## heading`."""
    return dict(part.split("\n", 1) for part in text.split("\n## ")[1:])


def rows(text: str) -> set[str]:
    """What stands in the first cell of the rows of a table, in backquotes."""
    cells = re.findall(r"^\| ([^|]+) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@functools.cache
def parsers() -> dict[str, dict[str, set[str]]]:
    """ "vitrail data check" -> {"options": ..., "arguments": ...} as the parser has them."""
    found = {}
    for verb, entry in VERBS.items():
        for part, app in commands(importlib.import_module(entry.module).app).items():
            names = [item.names for item in app.assemble_argument_collection() if item.parse]
            flat = {name for group in names for name in group}
            found[f"vitrail {verb} {part}".strip()] = {
                "options": {name for name in flat if name.startswith("-")},
                "arguments": {name for name in flat if name.isupper()},
            }
    return found


def test_every_verb_has_its_section_and_no_other_has_one() -> None:
    assert {title for title in sections(CLI) if title.startswith("vitrail ")} == set(parsers())


@pytest.mark.parametrize("verb", list(parsers()))
def test_options_and_arguments_of_a_verb(verb: str) -> None:
    text = sections(CLI)[verb]
    assert rows(text) == parsers()[verb]["options"]
    documented = set(re.findall(r"^- `([A-Z]+)`:", text, flags=re.MULTILINE))
    assert documented == parsers()[verb]["arguments"]


def test_global_options() -> None:
    names = {name for key in GLOBAL for name in key.split(", ")}
    assert rows(sections(CLI)["Options everywhere"]) == names


def test_the_tables_of_settings_are_those_of_the_code() -> None:
    assert page(CLI) == CLI, "make docs-settings"
    assert rows(sections(CLI)["Settings"]) == {*setting_options(), "--model.FIELD"}


@pytest.mark.parametrize("model", [TrainConfig, *CONFIGS.values()])
def test_every_setting_says_what_it_means(model: type[BaseModel]) -> None:
    for key, field in fields_of(model):
        text = meaning(field)
        assert re.fullmatch(r"\S.{5,}[.)]", text), f"{key}: {text!r}"
        assert " = " not in text  # of TOML, where it stands above the value


def test_help_describes_every_setting() -> None:
    for verb in ("train", "lr-find"):
        text = " ".join(run(verb, "--help", "-v").out.split())
        for key, field in FIELDS.items():
            if key not in HIDDEN:
                assert f" --{key.replace('_', '-')}" in text
                assert f" {meaning(field)} " in text


@functools.cache
def nodes_of_source() -> list[tuple[str, ast.Constant | ast.Call]]:
    """The constants and calls of vitrail, each with the name of its file."""
    return [
        (path.name, node)
        for path in sorted((ROOT / "vitrail").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Constant, ast.Call))
    ]


def codes_in_source() -> dict[str, set[str]]:
    """Code -> files with that code as a text of its own (not in a docstring or message)."""
    found: dict[str, set[str]] = {}
    for file, node in nodes_of_source():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if CODE.fullmatch(node.value):
                found.setdefault(node.value, set()).add(file)
    return found


def error_rows() -> dict[str, tuple[str, str]]:
    """Code -> (meaning, way out) of docs/errors.md."""
    found = re.findall(r"^\| `(VIT-\d{3})` \| (.+?) \| (.+?) \|$", ERRORS, flags=re.MULTILINE)
    assert len(found) == len({code for code, _, _ in found})
    return {code: (meaning, way) for code, meaning, way in found}


def test_every_code_that_is_raised_is_listed_and_no_other() -> None:
    raised, listed = codes_in_source(), set(error_rows())
    assert {code: files for code, files in raised.items() if code not in listed} == {}
    assert listed - set(raised) == set()


def test_codes_are_listed_in_order_below_their_exit_code() -> None:
    codes = list(error_rows())
    assert codes == sorted(codes)
    for title, text in sections(ERRORS).items():
        number = re.search(r"exit (\d)", title)
        first = number[1] if number else {"HTTP": "9"}[title.partition(":")[0]]
        assert all(code[4] == first for code in rows(text) if CODE.fullmatch(code))


def test_an_error_class_raises_only_codes_of_its_exit_code() -> None:
    numbers = {"UsageError": "2", "DataError": "3", "ModelError": "4", "EnvironmentFault": "5"}
    numbers |= {"TrainingError": "6", "GateError": "7", "VitrailError": "1", "DecodeFault": "3"}
    for file, node in nodes_of_source():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id in numbers and isinstance(first, ast.Constant):
                code = str(first.value)
                if CODE.fullmatch(code):
                    assert code[4] == numbers[node.func.id], f"{file}: {code}"

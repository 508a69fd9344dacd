"""docs/features.md: what is named there exists, and what is missing has its reason."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from vitrail.cli.registry import VERBS, option_names, setting_options

PAGE = Path(__file__).resolve().parents[1] / "docs" / "features.md"
ROWS = re.findall(r"^\| (?!feature|-)(.+?) \| (\w+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)


def test_every_row_has_an_answer() -> None:
    assert len(ROWS) > 50
    assert {answer for _, answer, _ in ROWS} <= {"yes", "partly", "no", "none"}
    assert sum(answer == "yes" for _, answer, _ in ROWS) / len(ROWS) > 0.8
    for name, answer, why in ROWS:
        assert answer == "yes" or len(why.split()) > 6, name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:30])
def test_commands_and_options_exist(row: tuple[str, str, str]) -> None:
    known = set(setting_options())
    for verb in VERBS.values():
        known |= set(option_names(import_module(verb.module).app))
    known |= {f"--model.{name}" for name in ("pool", "posemb")} | {"--tokens"}
    for code in re.findall(r"`([^`]+)`", row[2]):
        for verb in re.findall(r"^vitrail ([\w-]+)", code):
            assert verb in VERBS
        for option in re.findall(r"--[\w.-]+(?<!\.)", code):
            assert option in known or any(one.startswith(option) for one in known), option

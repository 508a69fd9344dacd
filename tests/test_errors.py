"""Errors carry a code, a message and a way out, and survive the way between processes."""

from __future__ import annotations

import copy

import pytest

from vitrail.errors import (
    DataError,
    EnvironmentFault,
    GateError,
    ModelError,
    TrainingError,
    UsageError,
    VitrailError,
    nearest,
)


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (VitrailError, 1),
        (UsageError, 2),
        (DataError, 3),
        (ModelError, 4),
        (EnvironmentFault, 5),
        (TrainingError, 6),
        (GateError, 7),
    ],
)
def test_exit_codes_are_those_of_the_contract(kind: type[VitrailError], exit_code: int) -> None:
    error = kind("VIT-299", "what was wrong", hint="what to do")
    assert error.exit_code == exit_code
    assert str(error) == "VIT-299: what was wrong\nwhat to do"


def test_copies_whole() -> None:
    twin = copy.copy(DataError("VIT-301", "two of three", hint="fix them"))
    assert (type(twin), twin.code, twin.message, twin.hint) == (
        DataError,
        "VIT-301",
        "two of three",
        "fix them",
    )


def test_nearest_names_the_likeliest_or_all() -> None:
    assert nearest("epoch", ["epochs", "steps"]) == "Did you mean epochs?"
    assert nearest("zzz", ["b", "a"]) == "Known: a, b."
    assert "(25 in all)" in nearest("zzz", [f"{number:02}" for number in range(25)])

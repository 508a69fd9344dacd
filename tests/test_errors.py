"""Errors carry a code, a message and a way out, and survive the way between processes."""

from __future__ import annotations

import ast
import copy
import errno
import os
import re
from pathlib import Path

import pytest

from vitrail.errors import (
    DataError,
    EnvironmentFault,
    GateError,
    ModelError,
    TrainingError,
    UsageError,
    VitrailError,
    environment_fault,
    nearest,
)

PACKAGE = Path(__file__).parents[1] / "vitrail"


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_an_environment_fault(number: int) -> None:
    fault = environment_fault(OSError(number, os.strerror(number), "runs/a"))
    assert fault is not None
    assert fault.code == "VIT-506"
    assert "runs/a" in fault.message
    assert "--out" in fault.hint


def test_other_os_errors_stay_internal() -> None:
    assert environment_fault(OSError(errno.EINVAL, "Invalid argument")) is None
    assert environment_fault(RuntimeError("shape")) is None


def test_torch_without_memory_is_an_environment_fault() -> None:
    fault = environment_fault(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"))
    assert fault is not None
    assert fault.code == "VIT-503"


def test_further_lines_of_a_message_begin_with_two_spaces() -> None:
    """Others would be printed as \\x0a: a name in a message must not begin a line."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(call, "func", None), "id", "")
            if not isinstance(call, ast.Call) or not name.endswith(("Error", "Fault")):
                continue
            for node in ast.walk(call):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and re.search(r"\n(?!  |$)", text):
                    wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not wrong, "\n".join(wrong)


def test_a_dependency_that_is_left_out_is_a_fault_of_the_environment() -> None:
    fault = environment_fault(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert fault is not None
    assert (fault.code, "torch" in fault.message) == ("VIT-520", True)
    assert environment_fault(ModuleNotFoundError("No module named 'x'", name="x")) is None

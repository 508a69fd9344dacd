"""docs/paper_map.md points at code and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
POINTERS = sorted(
    set(re.findall(r"`([\w/]+\.py):(\w+)`", (ROOT / "docs" / "paper_map.md").read_text("utf-8")))
)


def names_in(path: Path) -> set[str]:
    """Functions, classes, methods and module constants of a file."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize(("file", "name"), POINTERS)
def test_pointer_leads_somewhere(file: str, name: str) -> None:
    is_test = Path(file).name.startswith(("test_", "check_"))
    path = ROOT / ("tests" if is_test else "vitrail") / file
    assert path.is_file()
    assert name in names_in(path)


def test_there_are_pointers() -> None:
    assert len(POINTERS) > 40

"""Runs the cells of a notebook in one namespace, without Jupyter, and shows as it would."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def read(path: Path) -> Document:
    """A notebook file."""
    found: Document = json.loads(path.read_text(encoding="utf-8"))
    return found


def cells(notebook: Document, kind: str) -> list[str]:
    """The texts of its cells of one kind."""
    return ["".join(one["source"]) for one in notebook["cells"] if one["cell_type"] == kind]


def run(notebook: Document) -> tuple[dict[str, Any], list[str]]:
    """What the names of the notebook hold at its end, and what its cells show."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, text in enumerate(cells(notebook, "code"), 1):
        tree = ast.parse(text, f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            if value is not None:
                html = getattr(value, "_repr_html_", None)
                shown.append(html() if html else repr(value))
    return names, shown

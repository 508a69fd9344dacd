"""One command in this process: `run("train", "photos")` gives its exit code and what it printed."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from vitrail.cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)


def run(*argv: object) -> Done:
    """Run one command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in argv])
    return Done(code, out.getvalue(), err.getvalue())


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """Put a module with these attributes in the place of a real one."""
    module = ModuleType(name)
    vars(module).update(attributes)
    parent, _, child = name.rpartition(".")
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(importlib.import_module(parent), child, module, raising=False)

"""A small run, trained once."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

import vitrail

TINY: dict[str, Any] = {
    "model": "vit_mu8",
    "settings": {"data.train_pictures": 61},
    "epochs": 2,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="session")
def run_result(tmp_path_factory: pytest.TempPathFactory) -> vitrail.RunResult:
    """A run that was asked for silence, and kept it."""
    folder, said = tmp_path_factory.mktemp("runs"), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        result = vitrail.train("builtin:digits", runs_dir=folder, name="a", progress=False, **TINY)
    assert said.getvalue() == ""
    return result


@pytest.fixture(scope="session")
def trained(run_result: vitrail.RunResult) -> Path:
    """Its folder."""
    return run_result.run_dir

"""A small run, trained once; a model and images."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.export.exported import classifier_of

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


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder."""
    folder = tmp_path_factory.mktemp("model") / "m"
    classifier_of(channels=3).save(folder)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of two classes, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(7):
        place = folder / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (11, 7, 3), np.uint8)).save(place)
    (folder / "a" / "bad.png").write_bytes(b"\x89PNG")
    return folder

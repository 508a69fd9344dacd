"""The baseline that learns: a small residual network beside a run of another family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrail
from vitrail.training import rival
from vitrail.training.plan.plan_run import plan_run
from vitrail.training.reporter import RunResult

TINY = {"model.width": 16, "model.depth": 1, "model.num_heads": 1, "model.mlp_dim": 16}


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 x 11 px: a bright bar, upright or lying."""
    generator = np.random.default_rng(5)
    images = generator.integers(0, 90, (211, 13, 11), dtype=np.uint8)
    labels = np.arange(len(images)) % 2
    images[labels == 0, 4:9, 5] = 250
    images[labels == 1, 6, 3:8] = 250
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rival, "LEAST_STEPS", 1)


def train(bars: Path, out: Path, **settings: Any) -> RunResult:
    given = {
        "model.name": "vit_ti1",
        "batch_size": 16,
        "steps": 20,
        "threads": 1,
        **TINY,
        **settings,
    }
    return vitrail.train(bars, runs_dir=out, settings={**given, **TINY, **settings})


@pytest.mark.usefixtures("_short")
def test_a_run_is_told_what_a_residual_network_reaches(bars: Path, tmp_path: Path) -> None:
    first, again = (train(bars, tmp_path / name) for name in "ab")
    name = next(name for name in first.baselines if name.startswith(rival.NAME))
    assert first.baselines == again.baselines
    recorded = json.loads((first.run_dir / "run.json").read_text())["baselines"]
    assert recorded[name] == first.baselines[name]
    assert rival.NAME in (first.run_dir / "report.html").read_text()


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize(
    "settings", [{"residual_baseline": False}, {"time_limit_secs": 5.0, "steps": None}], ids=str
)
def test_it_can_be_left_out(bars: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    found = train(bars, tmp_path, **settings).baselines
    assert not any(name.startswith(rival.NAME) for name in found)


def test_it_sees_as_many_multiply_adds(bars: Path) -> None:
    """Not below LEAST_STEPS, and never more than MOST_MACS."""
    settings = {"data.path": str(bars), "model.name": "vit_ti1", "steps": 9, **TINY}
    plan = plan_run([("test", settings)])
    assert plan.splits.val is not None
    assert rival.small_residual(plan, 9, plan.splits.val) is None


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"model.name": "vit_ti1"}, True),
        ({"model.name": "bit_r26x0.5"}, True),
        ({"model.name": "resnet_ti"}, False),
        ({"model.name": "vit_ti1", "residual_baseline": False}, False),
        ({"model.name": "vit_ti1", "objective": "masked_patches"}, False),
    ],
    ids=str,
)
def test_whom_it_stands_beside(bars: Path, settings: dict[str, Any], wanted: bool) -> None:
    plan = plan_run([("test", {"data.path": str(bars), **settings})])
    assert rival.is_wanted(plan) == wanted

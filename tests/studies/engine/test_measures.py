"""vitrail/studies/engine/measures.py and the transfer protocol of data-size, on real small runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.studies.small_study import TINY
from vitrail.data.sources.open_data import ArraySource, open_data
from vitrail.explain.inspect.distance import distances
from vitrail.models.vit.config import ViTConfig
from vitrail.studies.compute_study import job_of
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.job import run_job
from vitrail.studies.engine.store import Store
from vitrail.studies.experiments import data_size
from vitrail.studies.setup import Setup, open_setup


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Digits to learn from; their mirror images, of half as many, to transfer to."""
    train = open_data("builtin:digits", seed=0).train
    assert isinstance(train, ArraySource)
    mirrored = np.ascontiguousarray(train.images[::2, :, ::-1, 0])
    np.savez(tmp_path / "mirrored.npz", images=mirrored, labels=train.labels[::2])
    return open_setup(
        "builtin:digits",
        str(tmp_path / "mirrored.npz"),
        examples=640,
        seeds=(0,),
        sizes=(200,),
        choices={"equal": "compute"},
    )


def tiny(cell: Cell) -> Cell:
    """The ViT's cells with a tiny model; what follows on other data keeps its parent's."""
    if cell.start is not None:
        return replace(cell, start=tiny(cell.start), settings={**cell.settings, "examples": 320})
    kept = {key: value for key, value in cell.settings.items() if not key.startswith("model.")}
    model = {key: value for key, value in TINY.items() if key.startswith("model.")}
    return replace(cell, settings={**kept, **model}, measures=(*cell.measures, "attention"))


def test_pretraining_is_judged_by_few_shots_and_fine_tuned(setup: Setup, tmp_path: Path) -> None:
    store = Store(tmp_path / "study")
    (store.folder / "runs").mkdir(parents=True)
    first, then = [tiny(cell) for cell in data_size.cells(setup) if cell.arm == "ViT"]
    assert then.start is not None
    rows = [
        run_job(job_of(cell, "data-size", setup, store), lambda share: None)
        for cell in (first, then)
    ]
    assert rows[0] is not None
    assert rows[1] is not None
    values = rows[0]["values"]
    assert values["train/pictures"] == 200
    assert 0 < values["few-shot/top1"] <= 1
    assert values["few-shot/n"] == values["test/n"] or values["few-shot/n"] > 50
    config = ViTConfig(
        image_size=(8, 8), patch_size=(2, 2), channels=1, width=16, depth=2, num_heads=2, mlp_dim=23
    )
    assert values["attention/uniform"] == pytest.approx(float(distances(config).mean()), abs=1e-12)
    for layer in ("00", "01"):
        near, mean, far = (
            values[f"attention/{k}_{layer}"] for k in ("nearest", "mean", "farthest")
        )
        assert 0 <= near <= mean <= far
    told = (store.folder / rows[1]["run"] / "config.toml").read_text(encoding="utf-8")
    assert f"runs/{rows[0]['key']}" in told
    assert "mirrored.npz" in told
    assert rows[1]["axes"] == {"pictures": 200, "then": "fine-tuned"}
    assert 0 <= rows[1]["values"]["test/top1"] <= 1

"""The same trainer for every family: whole runs, resumed bit for bit, loaded and asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.running import STEM, StopAt, records, resume, weights
from vitrail.classifier import load
from vitrail.training import loop
from vitrail.training.reporter import RunResult, SilentReporter

COMMON: dict[str, Any] = {
    "data.path": "builtin:digits",
    "steps": 13,
    "batch_size": 31,
    "precision": "float32",
    "eval_every_epochs": 0.13,
    "save_every_steps": 3,
    "threads": 1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bit": {"model": "bit_r26x1", "model.width_factor": 0.5, "model.depths": "1,1"},
    "bit_gn": {
        "model": "bit_r26x1_gn",
        "model.width_factor": 0.5,
        "model.depths": "1",
        "optim.layer_decay": 0.7,
        "checkpoint_activations": True,
    },
    "resnet": {
        "model": "resnet_ti",
        "model.stem_width": 5,
        "model.widths": "6,8",
        "ema": 0.9,
        "optim.name": "muon",
        "optim.layer_decay": 0.7,
    },
    "resnet_parts": {
        "model": "resnet_ti",
        "model.stem_width": 5,
        "model.widths": "8,12",
        "model.block": "bottleneck",
        "model.opening": "projection",
        "model.relu": "sum",
        "batch_size": 32,
        "optim.accumulate": 4,
        "checkpoint_activations": True,
    },
    "residual_stem": STEM | {"ema": 0.9, "checkpoint_activations": True},
    "hybrid": {
        "model": "r26_vit_s32",
        "model.stem_stages": "1",
        "model.stem_width": 32,
        "model.patch_size": "2x4",
        "model.width": 16,
        "model.depth": 2,
        "model.num_heads": 2,
        "model.mlp_dim": 23,
    },
    "every": {
        "model": "vit_ti4",
        "model.width": 16,
        "model.depth": 3,
        "model.num_heads": 2,
        "model.mlp_dim": 23,
        "model.pool": "cls",
        "model.posemb": "learned",
        "model.posemb_at": "every",
        "model.dropout": 0.1,
        "optim.layer_decay": 0.7,
        "checkpoint_activations": True,
    },
    "cct": {
        "model": "cct_2_3x2",
        "model.stem_width": 11,
        "model.width": 16,
        "model.mlp_dim": 23,
        "model.drop_path": 0.1,
    },
}


def train(
    folder: Path, family: str, name: str, reporter: SilentReporter | None = None
) -> RunResult:
    layer = COMMON | FAMILIES[family]
    return loop.train(
        [("test", layer)], runs_dir=folder, name=name, reporter=reporter, with_report=False
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_of_every_family(family: str, tmp_path: Path) -> None:
    """Stopped and resumed equals straight; the model folder gives the answers of the run."""
    straight = train(tmp_path, family, "straight").run_dir
    stopped = train(tmp_path, family, "stopped", StopAt(1))
    assert stopped.stopped == "SIGINT"
    resume(stopped.run_dir)
    assert records(stopped.run_dir) == records(straight)
    assert weights(stopped.run_dir) == weights(straight)
    document = json.loads((straight / "model" / "model.json").read_text())
    architecture = document["architecture"]
    assert architecture["name"] == FAMILIES[family]["model"]
    expected = next((one for one in ("bit", "resnet") if family.startswith(one)), "vit")
    assert architecture["family"] == expected
    classifier = load(straight)
    measured = json.loads((straight / "eval" / "test" / "metrics.json").read_text())
    assert classifier.evaluate("builtin:digits").to_json()["top1"] == measured["top1"]
    classifier.save(tmp_path / "copy")
    pixels = np.zeros((8, 8, 1), dtype=np.uint8)
    assert load(tmp_path / "copy").predict(pixels) == classifier.predict(pixels)

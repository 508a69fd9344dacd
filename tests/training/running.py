"""Tiny runs on the built-in digits, for tests: settings, an interrupter, what to compare.

Without report and audit, half of such a run's time, unless `with_report` asks for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.training import loop
from vitrail.training.reporter import Reporter, RunResult, SilentReporter

TINY = {
    "data.path": "builtin:digits",
    "steps": 13,
    "model.width": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.mlp_dim": 23,
    "model.dropout": 0.1,
    "batch_size": 31,
    "precision": "float32",
    "augment.mixup": 0.2,
    "augment.policy": "randaugment",
    "eval_every_epochs": 0.13,
    "save_every_steps": 3,
    "threads": 1,
}


STEM: dict[str, Any] = {  # digits are 8 x 8 px: a map of 4 x 4
    "model": "vit_ti4",
    "model.stem": "residual",
    "model.stem_width": 5,
    "model.stem_stride": 1,
    "model.stem_widths": "6",
    "model.stem_strides": "2",
    "model.stem_depths": "1",
    "model.patch_size": "1",
    "model.width": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.mlp_dim": 23,
}


class StopAt(SilentReporter):
    """Interrupts the run once, after `step` steps."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.at, self.number = step, number

    def step(self, record: Mapping[str, Any]) -> None:
        if record["step"] >= self.at:
            self.at = 10**9
            os.kill(os.getpid(), self.number)


def train(folder: Path, name: str = "run", **changes: Any) -> RunResult:
    options = options_of(changes)
    layer = {**TINY, **{key.replace("__", "."): value for key, value in changes.items()}}
    return loop.train([("test", layer)], runs_dir=folder, name=name, **options)


def train_from(folder: Path, source: Path, name: str = "run", **changes: Any) -> RunResult:
    """A run that starts from the model at `source`, with settings of TINY but the architecture."""
    options = options_of(changes)
    layer = {key: value for key, value in TINY.items() if not key.startswith("model.")}
    layer |= {"from": str(source), "augment.mixup": 0.0, "augment.policy": "none"}
    layer |= {key.replace("__", "."): value for key, value in changes.items()}
    return loop.train([("test", layer)], runs_dir=folder, name=name, **options)


def options_of(changes: dict[str, Any]) -> dict[str, Any]:
    """What of the changes is none of a setting, taken out of them."""
    return {
        "reporter": changes.pop("reporter", None),
        "with_report": changes.pop("with_report", False),
    }


def resume(run_dir: Path, reporter: Reporter | None = None) -> RunResult:
    """Go on with a run, without report."""
    return loop.resume(run_dir, reporter=reporter, with_report=False)


def records(run_dir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a stopwatch measured."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if not key.startswith("perf/")}
        for line in lines
    ]


def weights(run_dir: Path) -> str:
    return hashlib.sha256((run_dir / "model" / "model.safetensors").read_bytes()).hexdigest()

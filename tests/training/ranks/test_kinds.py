"""Every kind of training, by two processes: the bits of one with `exact`, its figures without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.ranks.in_ranks import in_ranks
from tests.training.running import TINY, records, train, weights
from vitrail.training import loop
from vitrail.training.ranks.ranks import ALONE, Ranks

PLAIN = {**TINY, "steps": 5, "batch_size": 32, "optim.accumulate": 4, "residual_baseline": False}
MODEL = {key: value for key, value in PLAIN.items() if not key.startswith("model.")}
NO_MIX = {"augment.mixup": 0.0, "augment.policy": "none"}
KINDS: dict[str, dict[str, Any]] = {
    "masked": {**PLAIN, **NO_MIX, "objective": "masked_patches", "model.patch_size": 2},
    "residual": {**MODEL, "model.name": "resnet_ti"},
    "hybrid": {**MODEL, "model.name": "vitr_ti", "model.depth": 1},
    "bit": {**MODEL, "model.name": "bit_r26x1_small", "model.width_factor": 0.5},
    "muon": {**PLAIN, "optim.name": "muon"},
    "lamb": {**PLAIN, "optim.name": "lamb", "optim.clip": 0.1},
    "schedule_free": {
        **PLAIN,
        "optim.name": "schedule_free",
        "schedule.name": "constant",
        "schedule.cooldown": 0.0,
        "ema": 0.0,
    },
    "bfloat16": {**PLAIN, "precision": "bfloat16"},
    "recomputed": {**PLAIN, "checkpoint_activations": True},
    "cutmix": {**PLAIN, "augment.cutmix": 1.0, "augment.repeats": 2},
    "balanced": {**PLAIN, "loss.class_weights": "balanced", "loss.name": "sigmoid"},
    "lora": {**MODEL, **NO_MIX, "start.model": "FIRST", "lora.rank": 2},
    "frozen": {**MODEL, **NO_MIX, "start.model": "FIRST", "freeze": "body"},
    "taught": {**PLAIN, "distill.teacher": "FIRST"},
    "patient": {**PLAIN, "steps": 40, "patience": 1, "eval_every_epochs": 0.05, "optim.lr": 0.5},
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to start from, and to learn from."""
    folder = tmp_path_factory.mktemp("first")
    train(folder, "first", steps=3)
    return folder / "first"


def trained(folder: Path, name: str, ranks: Ranks, settings: dict[str, Any]) -> int:
    result = loop.train(
        [("test", settings)], runs_dir=folder, name=name, with_report=False, ranks=ranks
    )
    return result.steps


@pytest.mark.slow
@pytest.mark.promise("R7")
@pytest.mark.parametrize("is_exact", [True, False])
@pytest.mark.parametrize("kind", list(KINDS))
def test_two_processes_train_it(tmp_path: Path, first: Path, kind: str, is_exact: bool) -> None:
    settings = {
        key: str(first) if value == "FIRST" else value for key, value in KINDS[kind].items()
    } | {"exact": is_exact}
    steps = trained(tmp_path, "one", ALONE, settings)
    found = in_ranks(tmp_path, 2, lambda ranks: trained(tmp_path, "two", ranks, settings))
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    if is_exact:
        assert found == [steps] * 2
        assert one == two
        assert weights(tmp_path / "one") == weights(tmp_path / "two")
        return
    before, after = one[0], two[0]
    assert [set(record) for record in one[:1]] == [set(record) for record in two[:1]]
    tolerance = 1e-2 if kind == "bfloat16" else 1e-5
    for key in {"train/loss", "val/loss"} & before.keys():
        assert after[key] == pytest.approx(before[key], rel=tolerance), key

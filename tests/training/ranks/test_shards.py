"""`--shard`: a share of the network on each process; losses and checkpoints of those without."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.ranks.in_ranks import in_ranks
from tests.training.running import TINY, records
from vitrail.errors import UsageError
from vitrail.settings.layers import build
from vitrail.training import loop
from vitrail.training.optim.schedule import StepSchedule
from vitrail.training.optim.shares import like, mesh_of, own_bytes, whole
from vitrail.training.plan.plan_run import plan_run
from vitrail.training.ranks.ranks import ALONE, Ranks
from vitrail.training.ranks.share import check_shards
from vitrail.training.reporter import SilentReporter
from vitrail.training.state import start_state
from vitrail.training.storage.checkpoint import load_latest

# Without steps that rounding decides: Adam divides by gradients near 0.
PLAIN = {
    **TINY,
    "steps": 7,
    "batch_size": 24,
    "optim.accumulate": 4,
    "optim.name": "adamw",
    "optim.eps": 1e-3,
    "optim.clip": 0.5,
    "ema": 0.9,
    "eval_every_epochs": 0.05,  # 3 steps
    "save_every_steps": 2,
    "residual_baseline": False,
}
MODEL = {key: value for key, value in PLAIN.items() if not key.startswith("model.")}
NO_MIX = {"augment.mixup": 0.0, "augment.policy": "none"}
KINDS: dict[str, dict[str, Any]] = {
    "adamw": PLAIN,
    "sgd": {**PLAIN, "optim.name": "sgd", "optim.lr": 0.05},
    "lamb": {**PLAIN, "optim.name": "lamb"},
    "recomputed": {**PLAIN, "checkpoint_activations": True},
    "masked": {**PLAIN, **NO_MIX, "objective": "masked_patches", "model.patch_size": 2},
    "residual": {**MODEL, "model.name": "resnet_ti", "ema": 0.0},
}
QUICK = "adamw"


class StopAtEvaluation(SilentReporter):
    """Interrupts the run at its first evaluation."""

    def evaluation(self, record: Mapping[str, Any]) -> None:
        if record["step"] < PLAIN["steps"]:
            os.kill(os.getpid(), signal.SIGTERM)


def trained(
    folder: Path, name: str, ranks: Ranks, settings: dict[str, Any], is_stopped: bool = False
) -> int:
    """Train a new run, or go on with it; is_stopped: until its first evaluation."""
    options: dict[str, Any] = {"with_report": False, "ranks": ranks}
    options["reporter"] = StopAtEvaluation() if is_stopped and ranks.is_first else None
    if (folder / name).exists():
        return loop.resume(folder / name, **options).steps
    return loop.train([("test", settings)], runs_dir=folder, name=name, **options).steps


def by_two(
    folder: Path, name: str, settings: dict[str, Any], *, shard: bool, is_stopped: bool = False
) -> Any:
    """What two processes did with a run."""
    return in_ranks(
        folder,
        2,
        lambda ranks: trained(folder, name, replace(ranks, is_sharded=shard), settings, is_stopped),
    )


def compare(one: Path, two: Path) -> None:
    """Losses and norms of two runs are equal to rounding, in every record."""
    before, after = records(one), records(two)
    assert [set(record) for record in before] == [set(record) for record in after]
    for old, new in zip(before, after, strict=True):
        for key in {"train/loss", "optim/grad_norm", "val/loss"} & old.keys():
            assert new[key] == pytest.approx(old[key], rel=2e-6), (old["step"], key)


@pytest.mark.promise("R7")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != QUICK)) for kind in KINDS]
)
def test_losses_are_those_of_complete_networks(tmp_path: Path, kind: str) -> None:
    settings = KINDS[kind]
    assert by_two(tmp_path, "complete", settings, shard=False) == [7, 7]
    assert by_two(tmp_path, "shards", settings, shard=True) == [7, 7]
    compare(tmp_path / "complete", tmp_path / "shards")
    found = [load_latest(tmp_path / name) for name in ("complete", "shards")]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].tensors.keys() == found[1].tensors.keys()
    for file, tensors in found[0].tensors.items():
        assert {name: (value.shape, value.dtype) for name, value in tensors.items()} == {
            name: (value.shape, value.dtype) for name, value in found[1].tensors[file].items()
        }


@pytest.mark.slow
@pytest.mark.promise("R7")
@pytest.mark.parametrize("first", [True, False])
def test_a_run_goes_on_with_shards_or_without(tmp_path: Path, first: bool) -> None:
    by_two(tmp_path, "straight", PLAIN, shard=not first)
    by_two(tmp_path, "changed", PLAIN, shard=first, is_stopped=True)
    saved = load_latest(tmp_path / "changed")
    assert saved is not None
    assert 0 < saved.step < 7
    shutil.copytree(tmp_path / "changed", tmp_path / "alone")
    by_two(tmp_path, "changed", PLAIN, shard=not first)
    compare(tmp_path / "straight", tmp_path / "changed")
    trained(tmp_path, "alone", ALONE, PLAIN)  # and one process reads it too
    compare(tmp_path / "straight", tmp_path / "alone")


def test_each_process_keeps_half(tmp_path: Path) -> None:
    """Weights, optimiser and average, counted in tensors; whole tensors come back bit for bit."""
    plan = plan_run([("test", {**PLAIN, "model.width": 32})])

    def work(ranks: Ranks) -> tuple[int, int, bool]:
        schedule, device = StepSchedule.of(7), torch.device("cpu")
        full = start_state(plan.config, plan.model, schedule, device)
        mine = start_state(plan.config, plan.model, schedule, device, mesh=mesh_of(2))
        for state in (full, mine):
            for value in state.model.parameters():
                value.grad = torch.zeros_like(value)
            state.optimizer.step()
        files, whole_files = mine.tensors(), full.tensors()
        same = all(
            torch.equal(whole(value), whole_files[file][name])
            and torch.equal(whole(like(whole_files[file][name], value)), whole_files[file][name])
            for file, tensors in files.items()
            for name, value in tensors.items()
        )
        found = [sum(map(own_bytes, one.values())) for one in (files, whole_files)]
        return found[0], found[1], same

    for mine, full, same in in_ranks(tmp_path, 2, work):
        assert mine <= 0.51 * full
        assert same


@pytest.mark.parametrize(
    ("changes", "ranks", "text"),
    [
        ({"exact": True}, Ranks(0, 2, 0, 2, True), "another order than --exact promises"),
        ({"optim.name": "muon"}, Ranks(0, 2, 0, 2, True), "muon needs whole tensors"),
        ({"compile": True}, Ranks(0, 2, 0, 2, True), "--compile"),
        ({}, Ranks(is_sharded=True), "more than one process"),
    ],
)
def test_what_cannot_be_in_shards_is_refused(
    changes: dict[str, Any], ranks: Ranks, text: str
) -> None:
    config = build({"batch_size": 24, "optim.accumulate": 4, **changes}, {})
    with pytest.raises(UsageError, match="VIT-269") as error:
        check_shards(config, ranks)
    assert text in str(error.value)
    check_shards(config, replace(ranks, is_sharded=False))

"""A step whose loss is not finite is kept and can be done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.cli_command import run as run_command
from tests.training.running import train
from vitrail.errors import ModelError, TrainingError
from vitrail.models.vit.layers import Mlp
from vitrail.training import replay as replays
from vitrail.training.replay import replay
from vitrail.training.tasks import objectives

TOO_FAST = {"optim.lr": 1e15, "optim.name": "adamw", "optim.clip": 0.0, "schedule.warmup": 0.0}


def diverged(folder: Path, **changes: Any) -> Path:
    with pytest.raises(TrainingError) as caught:
        train(folder, **changes)
    assert caught.value.code == "VIT-601"
    assert f"vitrail doctor --replay {folder / 'run'}" in caught.value.hint
    return folder / "run"


@pytest.mark.parametrize("changes", [{}, {"exact": True, "batch_size": 32, "optim__accumulate": 4}])
def test_the_kept_step_is_not_finite_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = diverged(tmp_path, **TOO_FAST, **changes)
    found = replay(run)
    kept = json.loads((run / "debug" / "batch.json").read_text())
    assert (found.step, found.began) == (kept["step"], kept["step"] - 1)
    assert not found.is_finite
    assert (found.loss, found.run_loss) == (kept["loss"], kept["loss"])
    assert found.layer.startswith(("blocks.", "patch_embed", "norm", "head"))
    assert found.parameters
    assert len(found.images) == len(set(found.images)) > 0


def test_the_layer_and_the_image_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poisoned: the second block's MLP, and the loss of rows with a certain label."""
    forward, loss_of, calls = Mlp.forward, objectives.loss, {"poisoned": True}

    def poisoned(logits: torch.Tensor, targets: torch.Tensor, *rest: Any) -> torch.Tensor:
        loss = loss_of(logits, targets, *rest)
        return loss * torch.where(targets[:, 3].max() > 0.9, torch.nan, 1.0)

    monkeypatch.setattr(objectives, "loss", poisoned)
    run = diverged(tmp_path, augment__mixup=0.0)
    found = replay(run)
    kept = json.loads((run / "debug" / "batch.json").read_text())
    assert (found.layer, found.is_finite) == ("", False)
    assert 0 < len(found.images) < len(kept["indices"])

    def bad(self: Mlp, *arguments: Any) -> torch.Tensor:
        answer = forward(self, *arguments)
        return answer * torch.nan if calls["poisoned"] else answer

    monkeypatch.setattr(objectives, "loss", loss_of)
    monkeypatch.setattr(Mlp, "forward", bad)
    assert replay(run).layer == "blocks.0.mlp"
    monkeypatch.setattr(Mlp, "forward", forward)
    assert replay(run).is_finite


def test_without_the_state_the_steps_before_are_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a run on a GPU: from the newest checkpoint, to the bit."""
    real, calls = objectives.loss, {"n": 0}

    def poisoned(*arguments: Any) -> torch.Tensor:
        calls["n"] += 1
        return real(*arguments) * (torch.nan if calls["n"] == 8 else 1.0)

    monkeypatch.setattr(objectives, "loss", poisoned)
    run = diverged(tmp_path)
    monkeypatch.setattr(objectives, "loss", real)
    from_state = replay(run)
    monkeypatch.setattr(replays, "FOLDER", "nowhere")
    from_checkpoint = replay(run)
    assert (from_state.began, from_checkpoint.began) == (7, 6)
    assert (from_state.loss, from_state.grad_norm) == (
        from_checkpoint.loss,
        from_checkpoint.grad_norm,
    )
    assert from_state.is_finite


def test_the_command_says_it(tmp_path: Path) -> None:
    run = diverged(tmp_path, **TOO_FAST)
    said = run_command("doctor", "--replay", run)
    assert said.code == 0
    assert "first output that is not finite: " in said.out
    train(tmp_path, "well", steps=1)
    with pytest.raises(ModelError, match="has kept no step"):
        replay(tmp_path / "well")

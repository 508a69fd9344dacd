"""Runs with patches of several sizes and with patch dropout: resumed, fine-tuned, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.running import StopAt, records, resume, train, train_from, weights
from vitrail.classifier import load
from vitrail.errors import UsageError
from vitrail.models.vit.config import ViTConfig
from vitrail.models.vit.flexible import drawn_patch
from vitrail.models.vit.model import ViT

SETTINGS: dict[str, Any] = {
    "image_size": 12,
    "model__patch_size": 3,
    "model__patch_sizes": "2,3,6",
    "model__patch_drop": 0.3,
    "residual_baseline": False,
    "batch_size": 30,
    "optim__accumulate": 2,
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("flexible"), **SETTINGS).run_dir


def config_of(run: Path) -> ViTConfig:
    model = load(run).model
    assert isinstance(model, ViT)
    return model.config


def sizes_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Receives the patch of every forward pass in training."""
    seen, forward = list[tuple[int, int]](), ViT.forward

    def watched(self: ViT, *args: Any, **options: Any) -> Any:
        if self.training:
            seen.append(self.patch)
        return forward(self, *args, **options)

    monkeypatch.setattr(ViT, "forward", watched)
    return seen


@pytest.mark.promise("R1")
def test_a_stopped_run_goes_on_with_the_same_sizes(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sizes_seen(monkeypatch)
    train(tmp_path, reporter=StopAt(5), **SETTINGS)
    resume(tmp_path / "run")
    config = config_of(straight)
    steps = [drawn_patch(config, 0, step) for step in range(1, 14)]
    assert seen[::2] == seen[1::2] == steps  # the parts of a step have one size
    assert len(set(steps)) == 3
    assert records(tmp_path / "run") == records(straight)
    assert weights(tmp_path / "run") == weights(straight)


def test_a_trained_model_answers_at_each_size(straight: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (11, 7, 3), dtype=np.uint8)
    found = [load(straight, patch=size) for size in (2, 3, 6)]
    own = load(straight)
    shown = np.stack([np.asarray(own.prepare(image), np.float32)])
    answers = [one.probabilities(shown) for one in (*found, own)]
    assert np.abs(answers[1] - answers[3]).max() <= 1e-6
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    assert np.abs(answers[2] - answers[1]).max() > 1e-3
    assert len({one.identity for one in (*found, own)}) == 4
    with pytest.raises(UsageError, match="2 3 6 px"):
        load(straight, patch=4)


def test_fine_tuning_keeps_the_sizes_or_takes_one(straight: Path, tmp_path: Path) -> None:
    """At another image size."""
    more: dict[str, Any] = {"steps": 2, "image_size": 18, "residual_baseline": False}
    kept = train_from(tmp_path, straight, "kept", **more).run_dir
    config = config_of(kept)
    assert config.patch_sizes == ((2, 2), (3, 3), (6, 6))
    assert config.grid == (6, 6)
    assert config.patch_drop == 0
    fields = {"model__patch_sizes": "", "model__patch_size": 6}
    plain = config_of(train_from(tmp_path, straight, "one", **more, **fields).run_dir)
    assert (plain.patch_sizes, plain.grid) == ((), (3, 3))


@pytest.mark.parametrize("field", ["patch_sizes", "patch_drop"])
def test_masked_patches_need_one_grid(tmp_path: Path, field: str) -> None:
    given: dict[str, Any] = {f"model__{field}": "2,3" if field == "patch_sizes" else 0.5}
    with pytest.raises(UsageError, match=f"model.{field}") as caught:
        train(
            tmp_path,
            objective="masked_patches",
            image_size=12,
            model__patch_size=3,
            augment__mixup=0.0,
            **given,
        )
    assert caught.value.code == "VIT-251"

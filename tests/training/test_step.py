"""A step on a device: what lies there, and how often the host waits for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.training.running import train
from vitrail.errors import DataError
from vitrail.training import loop
from vitrail.training.plan.plan_run import plan_run
from vitrail.training.step import training_loader


@pytest.mark.parametrize("augment", ["none", "randaugment", "trivialaugment"])
def test_images_in_memory_are_augmented_on_the_device(augment: str) -> None:
    """A meta tensor has no values: whatever is taken off the device raises."""
    plan = plan_run([("test", {"data.path": "builtin:digits", "augment.policy": augment})])
    elsewhere = replace(plan, config=plan.config.model_copy(update={"device": "meta"}))
    (batch,) = training_loader(elsewhere).batches(0, 1)
    (here,) = training_loader(plan).batches(0, 1)
    assert batch.images.device.type == "meta"
    assert batch.images.shape == here.images.shape
    on_mps = replace(plan, config=plan.config.model_copy(update={"device": "mps"}))
    (batch_for_mps,) = training_loader(on_mps).batches(0, 1)
    assert torch.equal(batch_for_mps.images, here.images)
    assert batch.labels.device.type == batch.indices.device.type == "cpu"


def test_a_file_that_changes_after_the_check_is_named(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(9):
            image = Image.new("RGB", (17, 19), (number, 10, 200))
            image.save(tmp_path / label / f"{number}.png")
    asked = {"data.path": str(tmp_path), "data.on_bad_file": "skip", "data.image_size": 16}
    asked |= {"model.name": "vit_ti8", "batch_size": 4, "data.workers": 0}
    plan = plan_run([("test", asked)])
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"not any more")
    with pytest.raises(DataError, match=r"VIT-301.*\.png") as caught:
        list(training_loader(plan).batches(0, 1))
    assert "changed since" in caught.value.hint


def test_a_step_waits_for_the_device_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number that is read from a tensor is a wait where the tensor lies on a GPU."""
    reads: list[str] = []

    def noted(name: str) -> Any:
        real = getattr(Tensor, name)

        def read(self: Tensor) -> Any:
            reads.append(name)
            return real(self)

        return read

    for name in ("item", "tolist", "__bool__", "__float__"):
        monkeypatch.setattr(Tensor, name, noted(name))
    step, counts = loop._step, []

    def counted(*arguments: Any) -> Any:
        before = len(reads)
        answer = step(*arguments)
        counts.append(len(reads) - before)
        return answer

    # an update on a GPU asks nothing; the one on a CPU looks at the loss
    monkeypatch.setattr(loop, "update", lambda *_: (torch.tensor(0.5), torch.tensor(0.25)))
    monkeypatch.setattr(loop, "_step", counted)
    train(tmp_path)
    assert counts == [1] * len(counts) != []

"""Accuracy by corruption: on a model whose answers are known, and the record of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.evaluation.robustness.test_corruptions import corrupted, scenes
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.batch import Batch, normalise
from vitrail.evaluation.robustness.corruptions import CORRUPTIONS
from vitrail.evaluation.robustness.measure import Robustness, robustness
from vitrail.runtime.runtime import flip_averaged
from vitrail.runtime.torch_runtime import TorchRuntime

PREPROCESS = Preprocess(height=13, width=11, resize=(13, 11))


class IsBright(nn.Module):
    """Two classes: the mean of a normalised image is below or above 0."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean], dim=1)


def batches(images: Tensor, labels: Tensor, size: int) -> list[Batch]:
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    return [Batch(images[p], labels[p], torch.arange(len(images))[p]) for p in parts]


def test_each_setting_is_the_accuracy_on_its_images() -> None:
    images = scenes(13, 11, 3, 23)
    labels = (images.float().mean(dim=(1, 2, 3)) > 110).long()
    names, levels = ("impulse_noise", "brightness", "fog"), (2, 5)
    said: list[int] = []
    model = IsBright().train()
    logits = TorchRuntime(model, PREPROCESS.input_size).logits
    found = robustness(
        logits, batches(images, labels, 5), PREPROCESS, names, levels, progress=said.append
    )
    assert model.training
    assert found.n == 23
    assert said[-1] == 23 * 6
    assert said == sorted(said)
    for name in names:
        for level in levels:
            pixels = corrupted(images, torch.arange(23), name, level)
            right = IsBright().eval()(normalise(pixels, PREPROCESS)).argmax(dim=1) == labels
            assert found.accuracy(name, level) == pytest.approx(right.double().mean().item())
    assert found.accuracy("brightness", 5) < found.accuracy("brightness", 2)
    again = robustness(logits, batches(images, labels, 23), PREPROCESS, names, levels)
    assert np.array_equal(again.correct, found.correct)


def test_several_labels_an_image_are_right_if_the_best_is_one_of_them() -> None:
    images = scenes(13, 11, 3, 6)
    both, logits = torch.ones(6, 2), TorchRuntime(IsBright(), PREPROCESS.input_size).logits
    assert robustness(logits, batches(images, both, 4), PREPROCESS, ["fog"], [1]).mean() == 1
    none = torch.zeros(6, 2)
    assert robustness(logits, batches(images, none, 4), PREPROCESS, ["fog"], [1]).mean() == 0


def test_the_record() -> None:
    correct = np.random.default_rng(0).random((15, 2, 31)) < 0.7
    record = Robustness(tuple(CORRUPTIONS), (1, 3), correct).to_json()
    assert record["mean_top1"] == pytest.approx(correct.mean())
    assert record["groups"]["noise"] == pytest.approx(correct[:3].mean())
    assert record["groups"]["digital"] == pytest.approx(correct[11:].mean())
    assert record["top1"]["fog"]["3"] == pytest.approx(correct[9, 1].mean())
    low, high = record["mean_top1_interval"]
    half = 1.96 * correct.mean(axis=(0, 1)).std() / np.sqrt(31)
    assert (low, high) == pytest.approx((correct.mean() - half, correct.mean() + half), abs=0.02)
    few = Robustness(("fog",), (2,), correct[:1, :1]).to_json()
    assert set(few["groups"]) == {"weather"}


def test_flip_averages_the_logits_of_both_views() -> None:
    class Left(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, 0, :, :2].mean(dim=1)

    images = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    left, right = images[:, 0, :, :2].mean(dim=1), images[:, 0, :, 3:].flip(-1).mean(dim=1)
    got = flip_averaged(Left())(images)
    assert torch.allclose(got, (left + right) / 2)
    assert torch.equal(flip_averaged(Left())(images.flip(-1)), got)
    assert not torch.equal(got, left)

"""Losses against float64 references written out by hand, and their closed forms at zero logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from vitrail.config import LossConfig
from vitrail.errors import DataError
from vitrail.training.tasks.objectives import balanced_weights, loss, one_hot, smooth

Array = np.ndarray[Any, np.dtype[np.float64]]
B, K = 7, 5


def reference(
    logits: Array, targets: Array, name: str, smoothing: float, weights: Array | None
) -> float:
    """The loss in float64, term by term."""
    targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    total = 0.0
    for z, y in zip(logits, targets, strict=True):
        for k in range(len(z)):
            weight = 1.0 if weights is None else weights[k]
            if name == "softmax":
                total -= weight * y[k] * (z[k] - math.log(sum(math.exp(v) for v in z)))
            else:
                p = 1 / (1 + math.exp(-z[k]))
                total -= weight * (y[k] * math.log(p) + (1 - y[k]) * math.log(1 - p))
    return total / len(logits) / (logits.shape[1] if name == "bce" else 1)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "bce"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_float64_reference(name: Any, smoothing: float, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (B, K))
    soft = rng.dirichlet(np.ones(K), B)
    weights = rng.uniform(0.2, 3, K) if weighted else None
    expected = reference(logits, soft, name, smoothing, weights)
    got = loss(
        torch.tensor(logits),
        torch.tensor(soft),
        LossConfig(name=name, label_smoothing=smoothing),
        None if weights is None else torch.tensor(weights),
    )
    assert got.item() == pytest.approx(expected, rel=1e-6)  # float32 inside
    assert got.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "expected"),
    [("softmax", math.log(10)), ("sigmoid", 10 * math.log(2)), ("bce", math.log(2))],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_zero_head_gives_the_closed_form(name: Any, expected: float, smoothing: float) -> None:
    targets = one_hot(torch.tensor([0, 3, 9]), 10)
    got = loss(torch.zeros(3, 10), targets, LossConfig(name=name, label_smoothing=smoothing))
    assert got.item() == pytest.approx(expected, rel=3e-7)


def test_equals_torch_on_class_numbers() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(11, 3), torch.randint(3, (11,))
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert loss(
        logits, one_hot(labels, 3), LossConfig(label_smoothing=0.1)
    ).item() == pytest.approx(expected.item())


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = torch.tensor([[30.0, -30.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    value = loss(logits, one_hot(torch.tensor([1]), 3), LossConfig())
    assert value.item() == pytest.approx(60.0)
    value.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_huge_logits_stay_finite() -> None:
    for name in ("softmax", "sigmoid", "bce"):
        config = LossConfig(name=name)
        assert torch.isfinite(loss(torch.tensor([[1e4, -1e4]]), torch.tensor([[0.0, 1.0]]), config))


def test_several_labels_at_once() -> None:
    hot = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(one_hot(hot, 3), hot)
    got = loss(
        torch.tensor([[9.0, 9.0, -9.0], [-9.0, -9.0, -9.0]]), hot, LossConfig(name="sigmoid")
    )
    assert got.item() == pytest.approx(3 * math.log1p(math.exp(-9)), rel=1e-5)


def test_balanced_weights_give_each_class_the_same_pull() -> None:
    counts = [2, 5, 13]
    weights = balanced_weights(counts)
    assert [
        count * weight for count, weight in zip(counts, weights.tolist(), strict=True)
    ] == pytest.approx([20 / 3] * 3)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    assert weights[labels].mean().item() == pytest.approx(1.0)  # so the loss keeps its scale
    value = loss(torch.zeros(20, 3), one_hot(labels, 3), LossConfig(), weights)
    assert value.item() == pytest.approx(math.log(3))


def test_a_class_without_images_cannot_be_balanced() -> None:
    with pytest.raises(DataError, match="number 1 have none") as error:
        balanced_weights([4, 0, 2])
    assert error.value.code == "VIT-327"


def test_mixing_and_smoothing_commute() -> None:
    a, b = one_hot(torch.tensor([0]), 3), one_hot(torch.tensor([2]), 3)
    assert torch.allclose(
        smooth(0.3 * a + 0.7 * b, 0.2), 0.3 * smooth(a, 0.2) + 0.7 * smooth(b, 0.2)
    )


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        loss(torch.zeros(2, 3), torch.zeros(2, 4), LossConfig())
    with pytest.raises(ValueError, match="do not have 4 classes"):
        one_hot(torch.zeros(2, 3), 4)

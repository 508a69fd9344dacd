"""Standardised kernels and the two ways of padding, against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vitrail.models.layers import std_conv
from vitrail.models.layers.fields import StdForm
from vitrail.models.layers.stages import same_pads
from vitrail.models.layers.std_conv import (
    StdConv2d,
    max_pool_same,
    max_pool_zero,
    pointwise,
    same_padded,
    standardised,
)

FORMS: tuple[StdForm, ...] = ("outside", "inside")


def random(*shape: int, seed: int = 0) -> Tensor:
    """float64 values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_standardised_by_hand() -> None:
    """Kernel (1, 2, 3, 6): mean 3, squares 4 + 1 + 0 + 9, biased variance 3.5."""
    weight = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64).view(1, 2, 1, 2)
    centred = torch.tensor([-2.0, -1.0, 0.0, 3.0], dtype=torch.float64).view(1, 2, 1, 2)
    outside = standardised(weight, 0.5, "outside")
    assert torch.allclose(outside, centred / (math.sqrt(3.5) + 0.5), rtol=1e-14, atol=0)
    inside = standardised(weight, 0.5, "inside")
    assert torch.allclose(inside, centred / math.sqrt(4.0), rtol=1e-14, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("eps", [1e-10, 0.3])
def test_gradient_is_the_numerical_one(form: StdForm, eps: float) -> None:
    weight = random(3, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: standardised(w, eps, form), (weight,))


@pytest.mark.parametrize("form", FORMS)
def test_shift_and_scale_of_a_kernel_do_not_matter(form: StdForm) -> None:
    weight = random(5, 3, 3, 3)
    other = 7 * weight + random(5, 1, 1, 1, seed=1)
    change = standardised(other, 1e-12, form) - standardised(weight, 1e-12, form)
    assert change.abs().max() <= 1e-11


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_kernel_is_zero_and_has_a_finite_gradient(form: StdForm) -> None:
    weight = torch.full((2, 3, 3, 3), 0.1, requires_grad=True)
    result = standardised(weight, 1e-5, form)
    torch.autograd.backward(result.sum())
    assert result.abs().max() <= 1e-2  # 0.1 is no binary fraction: the mean is off by a rounding
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_no_second_derivative_is_better_than_a_wrong_one() -> None:
    weight = random(2, 3, 1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(
        standardised(weight, 1e-5, "outside").square().sum(), weight, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(slope.sum())


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (224, 7, 2, (2, 3)),
        (225, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (56, 1, 2, (0, 0)),
        (5, 3, 1, (1, 1)),
    ],
)
def test_same_pads_of_tensorflow(
    size: int, kernel: int, stride: int, pads: tuple[int, int]
) -> None:
    assert same_pads(size, kernel, stride) == pads


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 7]), st.integers(1, 2))
def test_same_makes_ceil_of_size_over_stride(h: int, w: int, kernel: int, stride: int) -> None:
    padded = same_padded(torch.zeros(1, 1, h, w), kernel, stride)
    result = F.conv2d(padded, torch.ones(1, 1, kernel, kernel), stride=stride)
    assert result.shape[2:] == (-(-h // stride), -(-w // stride))


@given(st.integers(1, 13), st.integers(1, 13))
def test_max_pool_same_equals_pads_of_minus_infinity(h: int, w: int) -> None:
    x = random(2, 3, h, w) - 5  # below zero: a pad of zero would win
    (top, bottom), (left, right) = same_pads(h, 3, 2), same_pads(w, 3, 2)
    padded = F.pad(x, (left, right, top, bottom), value=-math.inf)
    assert torch.equal(max_pool_same(x), F.max_pool2d(padded, 3, 2))


def test_max_pool_zero_is_not_the_pool_of_torch() -> None:
    """big_transfer pads with zeros: where all is negative, they are the largest."""
    x = torch.full((1, 1, 5, 4), -2.0)
    assert max_pool_zero(x).tolist() == [[[[0, 0], [0, -2], [0, 0]]]]
    assert F.max_pool2d(x, 3, 2, padding=1).max() == -2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_size", [1, 15, 16, 17])
def test_pointwise_and_convolution_agree(form: StdForm, batch_size: int) -> None:
    """Few images take the dense layer, many torch's convolution."""
    layer = StdConv2d(7, 5, 1, eps=1e-5, form=form)
    layer.weight = torch.nn.Parameter(random(5, 7, 1, 1))
    x = random(batch_size, 7, 3, 2, seed=1).contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x, standardised(layer.weight, 1e-5, form))
    assert (layer(x) - expected).abs().max() <= 1e-13
    assert (pointwise(x, standardised(layer.weight, 1e-5, form)) - expected).abs().max() <= 1e-13


def test_each_kernel_is_standardised_once_a_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(weight: Tensor, eps: float, form: StdForm) -> Tensor:
        calls.append(1)
        return standardised(weight, eps, form)

    monkeypatch.setattr(std_conv, "standardised", counted)
    StdConv2d(2, 3, 3, eps=1e-5, form="inside")(torch.ones(2, 2, 5, 7))
    assert len(calls) == 1

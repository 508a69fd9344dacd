"""Products and attention: exact to rounding, the same bits twice, out of the way of tracing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap
from torch.utils.flop_counter import FlopCounterMode

from vitrail.models.layers import matmul
from vitrail.models.layers.matmul import attention, choose, dense, linear, products_name

HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
EPS = torch.finfo(torch.float32).eps


@pytest.fixture(
    params=[
        "torch",
        pytest.param(
            "onednn", marks=pytest.mark.skipif(not HAS_ONEDNN, reason="torch without oneDNN")
        ),
    ]
)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kernels, whatever this machine would choose, and for small products too."""
    name: str = request.param
    monkeypatch.setattr(matmul, "products_name", lambda: name)
    monkeypatch.setattr(matmul, "MIN_MULTIPLY_ADDS", 0)
    return name


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def differentiate(x: Tensor, weight: Tensor, bias: Tensor | None, dy: Tensor) -> list[Tensor]:
    """y and the gradients of x, weight and bias (where given) of `linear`."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, bias) if t is not None]
    y = linear(leaves[0], leaves[1], leaves[2] if bias is not None else None)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


@pytest.mark.parametrize(
    ("shape", "outputs"),
    [
        ((7, 11), 5),
        ((3, 13, 17), 29),
        ((2, 3, 5, 7), 31),
        ((1, 19), 1),
        ((257, 48), 144),
        ((509, 61), 13),
    ],
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_agrees_with_float64(
    kernel: str, shape: tuple[int, ...], outputs: int, has_bias: bool
) -> None:
    """|error| <= (terms + 1) eps sum |a||b|, any order of summation (Higham 2002, section 3.1)."""
    x, weight, dy = (
        draw(*shape),
        draw(outputs, shape[-1], seed=1),
        draw(*shape[:-1], outputs, seed=2),
    )
    bias = draw(outputs, seed=3) if has_bias else None
    rows, drows = x.reshape(-1, shape[-1]).double(), dy.reshape(-1, outputs).double()
    wide = weight.double()
    added = torch.zeros(outputs).double() if bias is None else bias.double()
    exact = [rows @ wide.T + added, drows @ wide, drows.T @ rows, drows.sum(0)]
    size = [
        rows.abs() @ wide.T.abs() + added.abs(),
        drows.abs() @ wide.abs(),
        drows.T.abs() @ rows.abs(),
        drows.abs().sum(0),
    ]
    terms = [shape[-1] + 1, outputs, rows.shape[0], rows.shape[0]]
    for got, want, scale, count in zip(
        differentiate(x, weight, bias, dy), exact, size, terms, strict=False
    ):
        error = (got.double() - want.reshape(got.shape)).abs()
        assert (error <= (count + 1) * EPS * scale.reshape(got.shape)).all()


def test_the_bound_would_notice_a_lost_term(kernel: str) -> None:
    x, weight = draw(7, 11), draw(5, 11, seed=1)
    exact = x[:, :-1].double() @ weight[:, :-1].double().T
    error = (linear(x, weight).double() - exact).abs()
    assert not (error <= 12 * EPS * (x.abs() @ weight.T.abs())).all()


def test_linear_gives_the_same_bits_twice(kernel: str) -> None:
    case = (draw(101, 37), draw(53, 37, seed=1), draw(53, seed=2), draw(101, 53, seed=3))
    for first, second in zip(differentiate(*case), differentiate(*case), strict=True):
        assert torch.equal(first, second)


def test_gradient_is_that_of_finite_differences(kernel: str) -> None:
    """Central differences; the loss is quadratic in each argument: only rounding is left."""
    x, weight, bias = draw(5, 7), draw(11, 7, seed=1), draw(11, seed=2)
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    loss = linear(*leaves).square().mean()
    grads = torch.autograd.grad(loss, leaves)
    for index, leaf in enumerate(leaves):
        step = draw(*leaf.shape, seed=9 + index)

        def value(sign: float, index: int = index, step: Tensor = step) -> float:
            moved = [t.double() for t in (x, weight, bias)]
            moved[index] = moved[index] + sign * 1e-3 * step.double()
            return float(F.linear(*moved).square().mean())

        slope = (value(1) - value(-1)) / 2e-3
        torch.testing.assert_close(float((grads[index] * step).sum()), slope, rtol=1e-4, atol=1e-5)


def test_linear_can_be_differentiated_twice(kernel: str) -> None:
    x, weight = draw(13, 7).requires_grad_(), draw(11, 7, seed=1).requires_grad_()

    def penalty(function: object) -> Tensor:
        assert callable(function)
        (dx,) = torch.autograd.grad(function(x, weight).square().sum(), x, create_graph=True)
        (dweight,) = torch.autograd.grad(dx.square().sum(), weight)
        assert isinstance(dweight, Tensor)
        return dweight

    want = penalty(F.linear)
    torch.testing.assert_close(
        penalty(linear), want, rtol=1e-5, atol=1e-5 * float(want.abs().max())
    )


def test_inputs_that_are_not_contiguous(kernel: str) -> None:
    x, weight = draw(5, 17, 7).transpose(0, 1), draw(7, 11, seed=1).t()  # (17, 5, 7), (11, 7)
    dy = draw(11, 5, 17, seed=2).permute(2, 1, 0)  # (17, 5, 11)
    got = differentiate(x, weight, None, dy)
    want = differentiate(x.contiguous(), weight.contiguous(), None, dy.contiguous())
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_frozen_weight_gets_no_gradient(kernel: str) -> None:
    x, weight, bias = draw(3, 7).requires_grad_(), draw(5, 7, seed=1), draw(5, seed=2)
    (dx,) = torch.autograd.grad(linear(x, weight, bias).sum(), x)
    torch.testing.assert_close(dx, weight.sum(0).expand(3, 7))
    assert weight.grad is None
    with torch.no_grad():
        assert not linear(x, weight, bias).requires_grad


def test_shapes_that_do_not_fit_are_refused(kernel: str) -> None:
    with pytest.raises(RuntimeError):
        linear(draw(5, 7), draw(11, 13))
    with pytest.raises(RuntimeError):
        linear(draw(5, 7), draw(11, 7), draw(10))


def test_other_types_and_autocast_are_as_in_torch(kernel: str) -> None:
    x, weight, bias = draw(13, 7), draw(11, 7, seed=1), draw(11, seed=2)
    double = linear(x.double(), weight.double(), bias.double())
    assert torch.equal(double, F.linear(x.double(), weight.double(), bias.double()))
    with torch.autocast("cpu", torch.bfloat16):
        half = linear(x, weight, bias)
        assert half.dtype == torch.bfloat16
        assert torch.equal(half, F.linear(x, weight, bias))


class Layer(nn.Module):
    """A dense layer and attention over it, through the functions of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 12)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, 7). Returns (B, 1, N, 12)."""
        y = linear(x, self.fc.weight, self.fc.bias).unsqueeze(1)
        return attention(y, y, y)


def test_export_sees_plain_operators(kernel: str) -> None:
    layer, x = Layer(), draw(2, 5, 7)
    program = torch.export.export(layer, (x,))
    names = {str(node.target) for node in program.graph.nodes}
    assert any("aten.linear" in name for name in names)
    assert not any("mkldnn" in name for name in names)
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-5, atol=1e-6)


def test_transforms_and_flop_counters_see_plain_operators(kernel: str) -> None:
    x, weight = draw(2, 5, 7), draw(12, 7, seed=1)
    mapped = vmap(linear, in_dims=(0, None))(x, weight)
    torch.testing.assert_close(mapped, linear(x, weight), rtol=1e-5, atol=1e-6)
    with FlopCounterMode(display=False) as counter:
        linear(x, weight)
    assert counter.get_total_flops() == 2 * 2 * 5 * 7 * 12


class Doubled(nn.Linear):
    """A layer somebody put in the place of a dense one."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_dense_calls_a_layer_of_another_kind() -> None:
    layer, other, x = nn.Linear(7, 5), Doubled(7, 5), draw(3, 7)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(dense(layer, x), layer(x))
    torch.testing.assert_close(dense(other, x), 2 * layer(x))


def test_small_products_stay_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "products_name", lambda: "onednn")
    assert not matmul._takes_onednn(draw(1, 192), draw(10, 192))
    assert matmul._takes_onednn(draw(2**10, 2**5), draw(2**5, 2**5))


@pytest.mark.parametrize(
    ("vendor", "capability", "has_onednn", "want"),
    [
        ("AuthenticAMD", "AVX512", True, "onednn"),
        ("HygonGenuine", "AVX2", True, "onednn"),
        ("AuthenticAMD", "AVX2", False, "torch"),
        ("AuthenticAMD", "DEFAULT", True, "torch"),
        ("GenuineIntel", "AVX512", True, "torch"),
        ("", "NO AVX", True, "torch"),
    ],
)
def test_choice(vendor: str, capability: str, has_onednn: bool, want: str) -> None:
    assert choose(vendor, capability, has_onednn) == want
    assert products_name() in ("onednn", "torch")


def reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Appendix A, equations 6 to 8, in float64."""
    logits = q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = (logits if bias is None else logits + bias.double()).softmax(-1)
    mixed: Tensor = weights @ v.double()
    return mixed


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)],
)
def test_attention_agrees_with_float64(
    dtype: torch.dtype, tolerance: float, has_bias: bool
) -> None:
    """Tolerances: a few units in the last place for values of size 1 (bfloat16: 2^-8)."""
    q, k, v = (draw(3, 2, 13, 5, seed=seed).to(dtype).requires_grad_() for seed in range(3))
    bias = draw(3, 2, 13, 13, seed=4).to(dtype) if has_bias else None
    dy = draw(3, 2, 13, 5, seed=5).to(dtype)
    got, want = attention(q, k, v, bias), reference(q, k, v, bias)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)
    grads = torch.autograd.grad(got, (q, k, v), dy)
    exact = torch.autograd.grad(want, (q, k, v), dy.double())
    for one, other in zip(grads, exact, strict=True):
        torch.testing.assert_close(
            one.double(), other.double(), rtol=2 * tolerance, atol=4 * tolerance
        )


def test_long_bfloat16_attention_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory does not grow with the square of the tokens."""
    monkeypatch.setattr(matmul, "MAX_EXPLICIT_TOKENS", 12)
    q, k, v = (draw(3, 2, 13, 5, seed=seed).bfloat16() for seed in range(3))
    assert torch.equal(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))

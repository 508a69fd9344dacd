"""Which kernel multiplies: decided here for every dense layer and every attention without a tap.

Why: torch's float32 products on x86 come from MKL, which keeps to its AVX2 kernels on AMD
processors; oneDNN, in the same torch, uses AVX-512 there. GFLOP/s of one thread of an EPYC with
Zen 5 cores, (8320 x 192) times (192 x 576): MKL 95 forward, 93 for the gradient of x, 97 for that
of the weight; oneDNN 211, 218, 192; oneDNN held to AVX2 (ONEDNN_MAX_CPU_ISA=AVX2): 108, 106, 101.
Method and all figures: docs/performance.md.

The choice reads the processor and the shapes, never a clock: a machine computes the same bits in
every run.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.device import cpu_vendor

# Below this many multiply-adds the call costs most: oneDNN takes 13 us at least, MKL 2 us.
MIN_MULTIPLY_ADDS = 2**20
# Up to this many tokens bfloat16 attention on a CPU keeps the whole softmax.
MAX_EXPLICIT_TOKENS = 1024
AMD = frozenset({"AuthenticAMD", "HygonGenuine"})


def choose(vendor: str, capability: str, has_onednn: bool) -> str:
    """ "onednn" or "torch" (what F.linear takes): float32, CPU vendor, torch's CPU capability."""
    fast = vendor in AMD and capability.startswith(("AVX2", "AVX512")) and has_onednn
    return "onednn" if fast else "torch"


@functools.cache
def products_name() -> str:
    """This machine's kernel of float32 products on the CPU, for the records: see `choose`."""
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    has_onednn = is_built and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return choose(cpu_vendor(), torch.backends.cpu.get_cpu_capability(), has_onednn)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias, as F.linear. x: (..., K); weight: (N, K); bias: (N,). Returns (..., N)."""
    if not _takes_onednn(x, weight):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])  # (M, K)
    result: Tensor = _OneDnnLinear.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return result.view(*x.shape[:-1], weight.shape[0])


def dense(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)`, by `linear` where the layer is torch's own: one that replaced it calls itself."""
    if type(layer) is nn.Linear:
        return linear(x, layer.weight, layer.bias)
    result: Tensor = layer(x)
    return result


def _takes_onednn(x: Tensor, weight: Tensor) -> bool:
    """Large, float32, on the CPU, eager. Tracing, export, transforms, autocast go to F.linear."""
    return (
        not torch.compiler.is_compiling()  # also true in torch.export; sizes may be symbols there
        and x.numel() * weight.shape[0] >= MIN_MULTIPLY_ADDS
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and products_name() == "onednn"
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()  # fake tensors, flop counters
    )


class _OneDnnLinear(torch.autograd.Function):
    """F.linear by oneDNN. Its gradients are such products again: it can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x: (M, K); weight: (N, K); bias: (N,) or None. Returns (M, N)."""
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """dL/dy: (M, N). Returns dL/dx (M, K), dL/dweight (N, K), dL/dbias (N,)."""
        (dy,) = grads
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            linear(dy, weight.t()) if needs_x else None,
            _weight_gradient(dy, x) if needs_weight else None,
            dy.sum(0) if needs_bias else None,
        )


def _weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """dy^T x, (N, K). The narrower factor first, as that one is copied into row order."""
    if dy.shape[1] > x.shape[1]:
        return linear(x.t(), dy.t()).t().contiguous()
    return linear(dy.t(), x.t())


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim) + bias) v.

    q, k, v: (B, heads, N, head_dim); bias: (B, heads, N, N), or 1 in the place of an axis along
    which it is the same. Returns (B, heads, N, head_dim).

    torch's fused kernel, except for bfloat16 on a CPU, where products and softmax one by one are
    faster (batch 128, 65 tokens, 3 heads of 64, one thread, forward + backward: fused 82 ms, one
    by one 14; fused in float32: 30).
    """
    is_slow = (
        q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and k.shape[2] <= MAX_EXPLICIT_TOKENS
        and not torch.compiler.is_compiling()
    )
    if not is_slow:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    B, heads, N, head_dim = q.shape
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)  # (B*heads, N, head_dim)
    added = q.new_zeros(1, 1, 1) if bias is None else bias.expand(B, heads, -1, -1).flatten(0, 1)
    logits = torch.baddbmm(added, q, k.transpose(1, 2), alpha=head_dim**-0.5)  # (B*heads, N, N)
    return torch.bmm(logits.softmax(dim=-1), v).view(B, heads, N, head_dim)

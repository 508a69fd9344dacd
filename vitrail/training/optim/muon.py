"""Muon (K. Jordan and others, 2024, https://kellerjordan.github.io/posts/muon): the momentum of a
weight matrix is replaced by the nearest matrix whose singular values are all one.

For kernels of hidden layers; the head, biases, norms, tokens and tables are trained by AdamW at the
same rate. As in arXiv 2502.16982, equation 4: a step is scaled by 0.2 sqrt(max(rows, columns)),
which gives it the size of an AdamW step, and weight decay is decoupled. A convolution's kernel is
the matrix (O, I k k). A fused layer is taken apart first: q, k and v are matrices of their own, and
so are the halves of a packed SwiGLU.

The nearest such matrix is found by five steps of X <- a X + b (X X^T) X + c (X X^T)^2 X (Newton and
Schulz), whose numbers are the post's: they bring singular values to about 0.7 .. 1.2, not to one.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vitrail.training.optim.update_rules import Group, UpdateRule, adam_directions, running

STEPS, A, B, C = 5, 3.4445, -4.7750, 2.0315
RMS = 0.2  # of an AdamW step, in units of the rate
TINY = 1e-7
FUSED = {"qkv": 3, "kv": 2}  # matrices one below the other in a layer of this name


class Muon(UpdateRule):
    """Groups with `is_hidden` get Muon, the others AdamW; both need `names` of their parameters.

    `lr`, `weight_decay` and `momentum` may differ by group. betas, eps: of AdamW. is_gated: whether
    the MLPs of the blocks are packed SwiGLUs, two matrices in one (never that of a pooling).
    """

    def __init__(
        self,
        groups: Iterable[Group],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        *,
        is_gated: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": 0.0}
        super().__init__(groups, defaults)
        self.is_gated = is_gated

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        """One step of a group."""
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
        if group["is_hidden"]:
            self._step_hidden(group, params, grads)
        else:
            directions = adam_directions(self, group, params, grads)
            torch._foreach_add_(params, directions, alpha=-group["lr"])

    def _step_hidden(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        buffers = running(self, params, "momentum_buffer")
        torch._foreach_lerp_(buffers, grads, 1.0 - group["momentum"])
        ahead = torch._foreach_lerp(grads, buffers, group["momentum"])  # Nesterov
        names = {id(p): name for p, name in zip(group["params"], group["names"], strict=True)}
        for param, move in zip(params, ahead, strict=True):
            parts = move.flatten(1).chunk(self.num_matrices(names[id(param)]))
            scaled = [orthogonal(part) * (RMS * max(part.shape) ** 0.5) for part in parts]
            param.add_(torch.cat(scaled).view_as(param), alpha=-group["lr"])

    def num_matrices(self, name: str) -> int:
        """How many matrices of its own the parameter `name` is."""
        path = name.split(".")
        if self.is_gated and "blocks" in path and path[-2] == "fc1":
            return 2
        return FUSED.get(path[-2], 1) if len(path) > 1 else 1


def orthogonal(matrix: Tensor) -> Tensor:
    """matrix: (m, n). Returns (m, n) with the same singular vectors and values near one."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + TINY)
    for _ in range(STEPS):
        square = x @ x.T
        x = A * x + (B * square + C * square @ square) @ x
    result: Tensor = x.T if is_tall else x
    return result

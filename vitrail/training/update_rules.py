"""Two update rules that torch does not have: momentum with decoupled decay, and LAMB.

Momentum (big_vision, vision_transformer): m = mu * m + g, w = w - lr * (m + lambda *
w); no dampening, no Nesterov. torch's SGD adds the decay to the gradient instead, where momentum
multiplies it by 1 / (1 - mu).

LAMB (arXiv 1904.00962, algorithm 2), as DeiT-III uses it (apex FusedLAMB, timm `Lamb`): Adam's
direction with bias correction plus lambda * w, scaled by |w| / |direction| of the tensor. Tensors
without weight decay (bias, norm, embeddings) are not scaled. The gradient is clipped outside, by
`optim.clip_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

Group = dict[str, Any]
Tensors = list[Tensor] | tuple[Tensor, ...]


class Momentum(Optimizer):
    """Momentum with decoupled weight decay. `lr`, `momentum` and `weight_decay` may differ by
    group.
    """

    def __init__(
        self, groups: Iterable[Group], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params, grads = with_gradient(group)
            if not params:
                continue
            buffers = running(self, params, "momentum_buffer")
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads)
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, buffers, alpha=-group["lr"])
        return None


class Lamb(Optimizer):
    """LAMB. `lr`, `betas`, `eps` and `weight_decay` may differ by group."""

    def __init__(
        self,
        groups: Iterable[Group],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params, grads = with_gradient(group)
            if params:
                self._step_group(group, params, grads)
        return None

    def _step_group(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        directions = adam_directions(self, group, params, grads)
        if group["weight_decay"]:
            torch._foreach_add_(directions, params, alpha=group["weight_decay"])
            ratios = _trust_ratios(params, directions)
            torch._foreach_mul_(directions, ratios)
        torch._foreach_add_(params, directions, alpha=-group["lr"])


def adam_directions(
    optimizer: Optimizer, group: Group, params: list[Tensor], grads: list[Tensor]
) -> Tensors:
    """Adam's direction of every parameter, with bias correction, before decay and rate."""
    beta1, beta2 = group["betas"]
    means = running(optimizer, params, "exp_avg")
    squares = running(optimizer, params, "exp_avg_sq")
    for param in params:
        optimizer.state[param].setdefault("step", torch.zeros((), dtype=torch.float32))
        optimizer.state[param]["step"] += 1
    steps = [float(optimizer.state[param]["step"]) for param in params]
    torch._foreach_lerp_(means, grads, 1.0 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, value=1.0 - beta2)

    denominators = torch._foreach_sqrt(squares)
    torch._foreach_div_(denominators, [(1.0 - beta2**step) ** 0.5 for step in steps])
    torch._foreach_add_(denominators, group["eps"])
    directions = torch._foreach_div(means, denominators)
    torch._foreach_div_(directions, [1.0 - beta1**step for step in steps])
    return directions


def _trust_ratios(params: list[Tensor], directions: Tensors) -> list[Tensor]:
    """|w| / |direction| of each tensor; 1 where either is 0."""
    weights = torch.stack(torch._foreach_norm(params))
    moves = torch.stack(torch._foreach_norm(directions))
    return list(torch.where((weights > 0) & (moves > 0), weights / moves, 1.0).unbind())


def with_gradient(group: Group) -> tuple[list[Tensor], list[Tensor]]:
    params = [param for param in group["params"] if param.grad is not None]
    return params, [param.grad for param in params]


def running(optimizer: Optimizer, params: list[Tensor], name: str) -> list[Tensor]:
    """The running tensor `name` of every parameter, zeros the first time."""
    for param in params:
        if name not in optimizer.state[param]:
            optimizer.state[param][name] = torch.zeros_like(
                param, memory_format=torch.preserve_format
            )
    return [optimizer.state[param][name] for param in params]

"""Update rules: momentum with decoupled decay, LAMB, which torch does not have, and AdamW.

Momentum (big_vision, vision_transformer): m = mu * m + g, w = w - lr * (m + lambda *
w); no dampening, no Nesterov. torch's SGD adds the decay to the gradient instead, where momentum
multiplies it by 1 / (1 - mu).

LAMB (arXiv 1904.00962, algorithm 2), as DeiT-III uses it (apex FusedLAMB, timm `Lamb`): Adam's
direction with bias correction plus lambda * w, scaled by |w| / |direction| of the tensor. Tensors
without weight decay (bias, norm, embeddings) are not scaled. The gradient is clipped outside, by
`optim.clip_gradients`.

AdamW (arXiv 1711.05101, algorithm 2) is torch's fused kernel, called as torch.optim.AdamW calls it:
the same bits. Its class is not used because it loads torch._dynamo as soon as one is made, 1.6 s of
processor time in each process that trains (torch 2.13, docs/decisions.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]
Tensors = list[Tensor] | tuple[Tensor, ...]


class UpdateRule(ABC):
    """What of torch.optim.Optimizer a run needs. param_groups: params, names, lr and what else the
    rule reads. state: the running tensors of each parameter that has had a gradient.
    """

    def __init__(self, groups: Iterable[Group], defaults: Group) -> None:
        self.param_groups: list[Group] = [{**defaults, **group} for group in groups]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                self.update(group, params, [param.grad for param in params])

    @abstractmethod
    def update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        """One step of a group that changes `params` in place; all of them have gradients."""


def running(rule: UpdateRule, params: list[Tensor], name: str) -> list[Tensor]:
    """The running tensor `name` of every parameter, zeros the first time."""
    for param in params:
        if name not in rule.state[param]:
            rule.state[param][name] = torch.zeros_like(param, memory_format=torch.preserve_format)
    return [rule.state[param][name] for param in params]


class Momentum(UpdateRule):
    """Momentum with decoupled weight decay. `lr`, `momentum` and `weight_decay` may differ by
    group.
    """

    def __init__(
        self, groups: Iterable[Group], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        """One step of a group."""
        buffers = running(self, params, "momentum_buffer")
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, grads)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, buffers, alpha=-group["lr"])


class WithMoments(UpdateRule):
    """Rules with Adam's settings: `lr`, `betas`, `eps` and `weight_decay`, which may differ by
    group.
    """

    def __init__(
        self,
        groups: Iterable[Group],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )


class FusedAdamW(WithMoments):
    """torch's fused AdamW, on a CPU or a CUDA device. `lr`, `betas`, `eps` and `weight_decay` may
    differ by group.
    """

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        """One step of a group."""
        for param in params:
            if "step" not in self.state[param]:
                self.state[param]["step"] = torch.zeros(
                    (), dtype=torch.float32, device=param.device
                )
        means, squares = running(self, params, "exp_avg"), running(self, params, "exp_avg_sq")
        steps = [self.state[param]["step"] for param in params]
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(
            params,
            grads,
            means,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


class Lamb(WithMoments):
    """LAMB. `lr`, `betas`, `eps` and `weight_decay` may differ by group."""

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        """One step of a group."""
        directions = adam_directions(self, group, params, grads)
        if group["weight_decay"]:
            torch._foreach_add_(directions, params, alpha=group["weight_decay"])
            ratios = _trust_ratios(params, directions)
            torch._foreach_mul_(directions, ratios)
        torch._foreach_add_(params, directions, alpha=-group["lr"])


def adam_directions(
    rule: UpdateRule, group: Group, params: list[Tensor], grads: list[Tensor]
) -> Tensors:
    """Adam's direction of every parameter, with bias correction, before decay and rate."""
    beta1, beta2 = group["betas"]
    means = running(rule, params, "exp_avg")
    squares = running(rule, params, "exp_avg_sq")
    for param in params:
        rule.state[param].setdefault("step", torch.zeros((), dtype=torch.float32))
        rule.state[param]["step"] += 1
    steps = [float(rule.state[param]["step"]) for param in params]
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

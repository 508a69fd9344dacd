"""AdamW without a schedule (arXiv 2405.15682, algorithm 1): an average of the iterates takes the
place of a falling rate, so that a run need not know its length.

Three sequences: z is moved by the gradients; x is its average, weighted by the squared rates, and
is what is evaluated, kept as the best and shipped; the gradient is taken at y = (1 - beta1) z +
beta1 x, which is what the network holds while it is trained. Weight decay is at y. The rate warms
up and stays; the paper's factor sqrt(1 - beta2^t) is part of it. Running values of BatchNorm are
those that the network saw at y.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitrail.training.optim.update_rules import Group, WithMoments, running

SCALARS = ("step", "weight_sum")  # of a parameter's state, beside tensors of its shape


class ScheduleFree(WithMoments):
    """State of each parameter: z, x, exp_avg_sq, step, and the sum of the squared rates. `lr`,
    `betas`, `eps` and `weight_decay` may differ by group.
    """

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        """One step of a group: z, its average x, and y into the parameters."""
        beta1, beta2 = group["betas"]
        for param in params:
            if "z" not in self.state[param]:
                start = {name: param.detach().clone() for name in ("z", "x")}
                zeros = {name: torch.zeros((), dtype=torch.float64) for name in SCALARS}
                self.state[param].update(start | zeros)
        squares = running(self, params, "exp_avg_sq")
        z, x = ([self.state[param][name] for param in params] for name in ("z", "x"))
        rates, shares = zip(*(self._rate_and_share(param, group) for param in params), strict=True)

        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1.0 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"])
        moves = torch._foreach_div(grads, denominators)
        if group["weight_decay"]:
            torch._foreach_add_(moves, params, alpha=group["weight_decay"])
        torch._foreach_mul_(moves, list(rates))
        torch._foreach_sub_(z, moves)
        torch._foreach_mul_(x, [1.0 - share for share in shares])
        torch._foreach_add_(x, torch._foreach_mul(z, list(shares)))
        torch._foreach_copy_(params, torch._foreach_lerp(z, x, beta1))

    def _rate_and_share(self, param: Tensor, group: Group) -> tuple[float, float]:
        """The rate of this step, and the share of z in the average behind it."""
        state = self.state[param]
        state["step"] += 1
        rate = group["lr"] * (1.0 - group["betas"][1] ** float(state["step"])) ** 0.5
        state["weight_sum"] += rate**2
        total = float(state["weight_sum"])
        return rate, rate**2 / total if total else 1.0


class Averages:
    """The network at x, by the names of its state dict: what is evaluated and shipped, in the place
    of an `Ema`.
    """

    def __init__(self, model: nn.Module, rule: ScheduleFree) -> None:
        self.model, self.rule = model, rule

    def update(self, model: nn.Module) -> None:
        """Nothing: the rule keeps x."""

    def tensors(self) -> dict[str, Tensor]:
        """x of every parameter that was trained; all else as the network has it (no copies)."""
        found = dict(self.model.state_dict())
        for name, param in self.model.named_parameters():
            if "x" in self.rule.state.get(param, {}):
                found[name] = self.rule.state[param]["x"]
        return found

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write it into `model`."""
        model.load_state_dict(self.tensors())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing: network and rule, which are restored before, hold all of it."""

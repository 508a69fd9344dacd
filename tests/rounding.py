"""How far float32 may stray from exact arithmetic: counted from the model, not from a machine.

Processors, libraries and numbers of threads add up in different orders, so that a bound which was
read off one of them fails on the next. Counted here are the roundings that a logit passes one after
another. By Higham and Mary (SIAM J. Sci. Comput. 41(5), 2019, theorem 3.1) n independent roundings
of relative size u = 2^-24 stay, for all but one in 2 exp(-c^2/2) sums, within c sqrt(n) u of the
largest value; c = 3.

Exactness itself is a matter of float64, where two orders of additions agree to EXACT.
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor, nn

from vitrail.models.vit.model import ViT

U = 2.0**-24
C = 3.0
EXACT = 1e-12


def roundings(model: ViT) -> int:
    """Of one logit, one after another: the terms of every sum on the longest way through."""
    config = model.config
    sums = sum(
        value.numel() if value.ndim == 1 else value[0].numel()
        for name, value in model.named_parameters()
        if name.endswith("weight") and value.ndim > 0
    )
    pooled = config.num_tokens if config.pool != "cls" else 0
    return sums + config.depth * (2 * config.num_tokens + config.head_dim) + pooled


def float32_error(model: ViT, values: Tensor) -> float:
    """The most that a float32 computation of `values` by the model may differ from the exact one.

    values: what the model answers, any shape; below 1 their size counts as 1, because the sums that
    they come from pass through norms, which make values of size 1.
    """
    return C * sqrt(roundings(model)) * U * max(1.0, float(values.abs().max()))


def row_sum_error(num_tokens: int) -> float:
    """Of a float32 softmax over that many tokens: N exponentials are added up, each share is
    rounded (8 roundings of exponential, difference and quotient), and the shares are added again.
    """
    return C * sqrt(2 * num_tokens + 8) * U


def moves_nothing(name: str, model: nn.Module) -> bool:
    """Whether the gradient of a parameter is zero in exact arithmetic.

    The bias of the score by which `pool="seq"` weights tokens shifts all scores alike, which a
    softmax does not see. Float64 shows rounding noise, or zero where the sums happen to cancel.
    """
    return isinstance(model, ViT) and model.config.pool == "seq" and name.endswith("score.bias")

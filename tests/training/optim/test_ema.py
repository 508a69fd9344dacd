"""The averaged weights against their closed form, and their way into and out of a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitrail.training.optim.ema import Ema


class Counter(nn.Module):
    """A model with a weight, a floating buffer and a counting buffer."""

    total: torch.Tensor
    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 5))
        self.register_buffer("total", torch.zeros(2))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


def set_to(model: Counter, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)
        model.total.fill_(2 * value)
        model.seen.fill_(int(value))


def test_follows_the_closed_form() -> None:
    model, decay = Counter(), 0.9
    ema = Ema(model, decay)
    expected = 0.0
    for value in (1.0, 4.0, -2.0, 8.0):
        set_to(model, value)
        ema.update(model)
        expected = decay * expected + (1 - decay) * value
    assert torch.allclose(ema.shadow["weight"], torch.full((3, 5), expected), rtol=1e-6)
    assert torch.allclose(ema.shadow["total"], torch.full((2,), 2 * expected), rtol=1e-6)
    assert ema.shadow["seen"].item() == 8  # counters are copied


def test_small_updates_of_a_bfloat16_model_are_not_lost() -> None:
    model = Counter().to(torch.bfloat16)
    set_to(model, 1.0)
    ema = Ema(model, 0.9999)
    set_to(model, 2.0)
    for _ in range(10):
        ema.update(model)
    assert ema.shadow["weight"].dtype == torch.float32
    assert ema.shadow["weight"][0, 0].item() == pytest.approx(2 - 0.9999**10, rel=1e-5)
    ema.copy_to(model)
    assert model.weight.dtype == torch.bfloat16


def test_copy_to_and_restore_give_the_same_bits() -> None:
    model = Counter()
    torch.manual_seed(0)
    nn.init.normal_(model.weight)
    ema = Ema(model, 0.5)
    nn.init.normal_(model.weight)
    ema.update(model)
    saved = {name: value.clone() for name, value in ema.tensors().items()}
    other = Ema(Counter(), 0.5)
    other.restore(saved)
    model2 = Counter()
    other.copy_to(model2)
    assert torch.equal(model2.weight, saved["weight"])
    assert not torch.equal(model2.weight, model.weight)


def test_the_model_is_not_touched_and_shares_no_memory() -> None:
    model = Counter()
    ema = Ema(model, 0.5)
    set_to(model, 3.0)
    assert ema.shadow["weight"].abs().sum() == 0
    ema.update(model)
    assert torch.equal(model.weight, torch.full((3, 5), 3.0))


def test_refuses_other_names_and_decays() -> None:
    with pytest.raises(ValueError, match="decay"):
        Ema(Counter(), 1.0)
    with pytest.raises(ValueError, match="other names"):
        Ema(Counter(), 0.9).restore({"weight": torch.zeros(3, 5)})

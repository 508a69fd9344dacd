"""Ranges that a user types, and those that are taken without any."""

from __future__ import annotations

import pytest

from vitrail.errors import UsageError
from vitrail.settings.layers import resolve
from vitrail.studies.tuning.space import default_ranges, ranges_of


def test_what_can_be_typed() -> None:
    rate, depth, policy, share = ranges_of(
        ["lr=1e-4..1e-2", "model.depth=4..12", "augment.policy=none,randaugment", "ema=0..0.99"]
    )
    assert (rate.name, rate.low, rate.high, rate.is_log) == ("optim.lr", 1e-4, 1e-2, True)
    assert (depth.is_whole, depth.is_log, depth.examples) == (True, False, (4, 12))
    assert policy.choices == ("none", "randaugment")
    assert (share.is_log, share.examples) == (False, (0.0, 0.99))


@pytest.mark.parametrize(
    "text",
    [
        "optim.lr",
        "optim.lr=",
        "=1..2",
        "optim.lr=1e-3",
        "optim.lr=1e-2..1e-4",
        "optim.lr=a..b",
        "optim.lr=1..inf",
        "epochs=1..5",
        "seed=1,2",
        "optim.lr=1e-3,1e-3",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="VIT-202") as error:
        ranges_of([text])
    assert "--over" in str(error.value)


def test_a_setting_twice() -> None:
    with pytest.raises(UsageError, match="twice"):
        ranges_of(["lr=1e-4..1e-2", "optim.lr=1e-4..1e-3"])


def test_without_any_it_is_around_what_would_be_taken() -> None:
    config, _ = resolve([("test", {"optim.lr": 2e-3, "optim.weight_decay": 0.0})])
    found = {one.name: one for one in default_ranges(config, {})}
    assert set(found) == {"optim.lr", "loss.label_smoothing"}  # no decay: nothing to vary
    assert found["optim.lr"].low < 2e-3 < found["optim.lr"].high
    assert set(found) - {"optim.lr"} == {
        one.name for one in default_ranges(config, {"optim.lr": 2e-3})
    }

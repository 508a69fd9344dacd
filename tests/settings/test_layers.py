"""Layers of settings: which wins, what is refused, the environment."""

from __future__ import annotations

import pytest

from vitrail.errors import UsageError
from vitrail.settings.layers import DURATIONS, environment_layer, resolve


def test_later_layers_win_and_sources_say_which() -> None:
    config, sources = resolve(
        [("file", {"optim.lr": 0.1, "seed": 3}), ("command line", {"lr": "3e-4"})]
    )
    assert config.optim.lr == 3e-4
    assert (sources["optim.lr"], sources["seed"]) == ("command line", "file")
    assert sources["optim.eps"] == "built-in"


@pytest.mark.parametrize("duration", DURATIONS)
def test_a_duration_replaces_every_lower_one(duration: str) -> None:
    config, _ = resolve([("recipe", {"epochs": 7}), ("command line", {duration: 5})])
    given_ones = [name for name in DURATIONS if getattr(config, name) is not None]
    assert given_ones == [duration]


def test_two_durations_in_one_layer_are_refused() -> None:
    with pytest.raises(UsageError, match="one duration") as caught:
        resolve([("command line", {"epochs": 1, "time_limit": "5m"})])
    assert caught.value.code == "VIT-213"


@pytest.mark.parametrize(
    ("layer", "code", "text"),
    [
        ({"optim.lrr": 1}, "VIT-211", "Did you mean optim.lr?"),
        ({"optim.lr": "fast"}, "VIT-212", "optim.lr = 'fast' (from command line)"),
        ({"optim.lr": -1}, "VIT-212", "greater than 0"),
        ({"precision": "float16"}, "VIT-212", "float32"),
    ],
)
def test_mistakes_name_setting_source_and_way_out(
    layer: dict[str, object], code: str, text: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve([("command line", layer)])
    assert caught.value.code == code
    assert text in caught.value.message


@pytest.mark.parametrize("value", ["60", "1.5", ".5", 60, 90.0, " 60 "])
@pytest.mark.parametrize("key", ["time_limit", "time-limit", "save_every"])
def test_a_time_without_a_unit_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError, match="needs a unit") as caught:
        resolve([("a file, Python or the command line", {key: value})])
    assert caught.value.code == "VIT-212"
    assert f"--{key.replace('_', '-')} {str(value).strip()}s" in caught.value.hint


@pytest.mark.parametrize("value", ["60", 60, "60s", "1m", 60.0])
def test_a_name_that_says_the_unit_takes_a_number(value: object) -> None:
    assert resolve([("test", {"time_limit_secs": value})])[0].time_limit_secs == 60


def test_environment_names_settings() -> None:
    assert environment_layer({"VITRAIL_OPTIM_LR": "1", "HOME": "/x"}) == {"optim.lr": "1"}
    with pytest.raises(UsageError, match="VITRAIL_OPTIM_LR"):
        environment_layer({"VITRAIL_OPTIM_LRR": "1"})

"""Layers of settings: which one wins, where a value came from, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.config import (
    DURATIONS,
    SHORT,
    TrainConfig,
    build,
    config_hash,
    environment_layer,
    flatten,
    known_keys,
    parse_secs,
    parse_size,
    read_toml,
    resolve,
    to_toml,
)
from vitrail.errors import UsageError
from vitrail.recipes.registry import RECIPES, recipe


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


@pytest.mark.parametrize(
    ("text", "value"),
    [("64", (64, 64)), (37, (37, 37)), ("48x64", (48, 64)), ("48,64", (48, 64)), ("auto", "auto")],
)
def test_sizes_are_height_first(text: object, value: object) -> None:
    assert parse_size(text) == value


def test_channels_may_be_text() -> None:
    assert resolve([("test", {"data.channels": "1"})])[0].data.channels == 1
    with pytest.raises(UsageError):
        resolve([("test", {"data.channels": "2"})])


@pytest.mark.parametrize(
    ("text", "secs"), [("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0)]
)
def test_times_have_units(text: str, secs: float) -> None:
    assert parse_secs(text) == secs


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


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_are_complete_and_survive_toml(name: str) -> None:
    config = recipe(name)
    assert config.recipe == name
    assert sum(getattr(config, duration) is not None for duration in DURATIONS) == 1
    again = build(flatten(tomllib.loads(to_toml(config))), {})
    assert again == config
    assert config_hash(again) == config_hash(config)


@given(lr=st.floats(1e-9, 1e3), seed=st.integers(0, 2**32 - 1), path=st.text(max_size=30))
def test_toml_round_trip(lr: float, seed: int, path: str) -> None:
    config, _ = resolve([("test", {"optim.lr": lr, "seed": seed, "data.path": path})])
    assert build(flatten(tomllib.loads(to_toml(config))), {}) == config


def test_environment_names_settings() -> None:
    assert environment_layer({"VITRAIL_OPTIM_LR": "1", "HOME": "/x"}) == {"optim.lr": "1"}
    with pytest.raises(UsageError, match="VITRAIL_OPTIM_LR"):
        environment_layer({"VITRAIL_OPTIM_LRR": "1"})


def test_short_options_stand_for_settings() -> None:
    assert set(SHORT.values()) <= {*known_keys(), "model.name"}


def test_toml_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("epochs = = 3")
    with pytest.raises(UsageError, match=r"run\.toml"):
        read_toml(tmp_path / "run.toml")


def test_hash_changes_with_any_setting() -> None:
    base = config_hash(TrainConfig())
    assert config_hash(TrainConfig(seed=1)) != base
    assert config_hash(TrainConfig()) == base

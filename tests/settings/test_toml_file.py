"""Settings as TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.config import config_hash, flatten
from vitrail.errors import UsageError
from vitrail.recipes.registry import RECIPES, recipe
from vitrail.settings.layers import DURATIONS, build, resolve
from vitrail.settings.toml_file import read_toml, to_toml


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


def test_toml_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("epochs = = 3")
    with pytest.raises(UsageError, match=r"run\.toml"):
        read_toml(tmp_path / "run.toml")

"""Settings of a run: declared once, short options, the hash that changes with any of them."""

from __future__ import annotations

import pytest

from vitrail.config import SHORT, TrainConfig, config_hash, known_keys
from vitrail.errors import UsageError
from vitrail.settings.layers import resolve


def test_channels_may_be_text() -> None:
    assert resolve([("test", {"data.channels": "1"})])[0].data.channels == 1
    with pytest.raises(UsageError):
        resolve([("test", {"data.channels": "2"})])


def test_short_options_stand_for_settings() -> None:
    assert set(SHORT.values()) <= {*known_keys(), "model.name"}


def test_hash_changes_with_any_setting() -> None:
    base = config_hash(TrainConfig())
    assert config_hash(TrainConfig(seed=1)) != base
    assert config_hash(TrainConfig()) == base

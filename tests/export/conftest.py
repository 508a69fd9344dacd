"""Exports in tests measure their speed for moments only."""

from __future__ import annotations

import pytest

from vitrail.export import speed


@pytest.fixture(autouse=True, scope="session")
def quick_speed() -> None:
    """For the whole session: fixtures of modules export too, and no test reads a clock."""
    speed.SECS, speed.ROUNDS = 0.001, 1

"""How values of settings are written."""

from __future__ import annotations

import pytest

from vitrail.setting_values import parse_secs, parse_size


@pytest.mark.parametrize(
    ("text", "value"),
    [("64", (64, 64)), (37, (37, 37)), ("48x64", (48, 64)), ("48,64", (48, 64)), ("auto", "auto")],
)
def test_sizes_are_height_first(text: object, value: object) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(
    ("text", "secs"), [("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0)]
)
def test_times_have_units(text: str, secs: float) -> None:
    assert parse_secs(text) == secs

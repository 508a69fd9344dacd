"""Documents that differ from one in a single value: each of them has to be noticed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    return value + 1 if isinstance(value, int | float) else value + "x"


def changed(value: Any) -> Iterator[Any]:
    """The document with one of its values changed, each in turn."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from (value | {key: one} for one in changed(part))
    elif isinstance(value, list) and value:
        for place, part in enumerate(value):
            yield from ([*value[:place], one, *value[place + 1 :]] for one in changed(part))
        yield value[::-1] if value[::-1] != value else value[:-1]
    elif not isinstance(value, list):
        yield other(value)

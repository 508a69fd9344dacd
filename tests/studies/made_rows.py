"""Rows without runs behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from vitrail.studies.engine.row import Axis, Row


def made_row(
    arm: str,
    seed: int,
    axes: Mapping[str, Axis],
    values: Mapping[str, float],
    *,
    run: str = "",
    cost: Mapping[str, float] | None = None,
) -> Row:
    """A row of the study "made"."""
    key = hashlib.sha256(f"{arm} {seed} {axes}".encode()).hexdigest()[:16]
    return Row(key, "made", arm, axes, seed, values, cost or {"seconds": 1.5}, run, {"date": "-"})

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
    return Row(
        key=key,
        study="made",
        arm=arm,
        axes=axes,
        seed=seed,
        values=values,
        cost=cost or {"seconds": 1.5},
        run=run,
        made={"date": "-"},
    )

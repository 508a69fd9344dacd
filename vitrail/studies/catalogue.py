"""The studies by name."""

from __future__ import annotations

from vitrail.errors import UsageError, nearest
from vitrail.studies import (
    attention,
    compute,
    data_size,
    head,
    optimizer,
    posemb,
    resolution,
    self_supervised,
    shape,
    speed,
)
from vitrail.studies.study import Study

STUDIES: dict[str, Study] = {
    one.name: one
    for one in (
        data_size.STUDY,
        compute.STUDY,
        head.STUDY,
        posemb.STUDY,
        shape.STUDY,
        optimizer.STUDY,
        resolution.STUDY,
        self_supervised.STUDY,
        attention.STUDY,
        speed.STUDY,
    )
}


def study_named(name: str) -> Study:
    """Raises UsageError VIT-292 for an unknown name."""
    if name not in STUDIES:
        hint = "All of them: vitrail study --list"
        raise UsageError("VIT-292", f"unknown study {name}. {nearest(name, STUDIES)}", hint=hint)
    return STUDIES[name]

"""The studies by name."""

from __future__ import annotations

from vitrail.errors import UsageError, nearest
from vitrail.studies.compute_study import Study
from vitrail.studies.experiments import (
    attention_distance,
    compute,
    data_size,
    head,
    optimizers,
    posemb_kinds,
    resolution,
    self_supervised,
    shape,
    speed,
)

STUDIES: dict[str, Study] = {
    one.name: one
    for one in (
        data_size.STUDY,
        compute.STUDY,
        head.STUDY,
        posemb_kinds.STUDY,
        shape.STUDY,
        optimizers.STUDY,
        resolution.STUDY,
        self_supervised.STUDY,
        attention_distance.STUDY,
        speed.STUDY,
    )
}


def study_named(name: str) -> Study:
    """Raises UsageError VIT-292 for an unknown name."""
    if name not in STUDIES:
        hint = "All of them: vitrail study --list"
        raise UsageError("VIT-292", f"unknown study {name}. {nearest(name, STUDIES)}", hint=hint)
    return STUDIES[name]

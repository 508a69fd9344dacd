"""The images that a model is judged on, as they were asked for: named, or the run's own."""

from __future__ import annotations

from pathlib import Path

from vitrail.data.sources.examples import Examples
from vitrail.errors import UsageError
from vitrail.evaluation.eval_set import Opened, known_of, open_given, open_own
from vitrail.run_model import is_run


def opened_for(
    model: Path, known: Examples | str, data: str | None, split: str, *, draw: bool = False
) -> Opened:
    """`data` to judge a model on, the run's own where none is given. known: what it was trained on.
    draw: hold out what other data lacks, to fit something on it.

    Raises UsageError VIT-208 where no data is known, and as `open_own` and `open_given`.
    """
    if data is not None:
        return open_given(
            data, split, known_of(model, known) if is_run(model) else known, draw=draw
        )
    if not is_run(model):
        raise UsageError(
            "VIT-208",
            f"{model} does not say which images to measure on.",
            hint=f"Name them: vitrail eval {model} DATA",
        )
    return open_own(model, split)

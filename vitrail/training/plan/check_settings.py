"""Settings against one another and against the classes of the data, before anything is built."""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.config import TrainConfig
from vitrail.data.sources.open_data import Splits
from vitrail.errors import DataError, UsageError
from vitrail.spelling import count
from vitrail.training.plan.draft import Draft
from vitrail.training.plan.idle import Said, refuse_idle, unread
from vitrail.training.plan.pinned_model import load_pinned


def check_settings(
    config: TrainConfig, splits: Splits, draft: Draft, layers: Sequence[tuple[str, object]]
) -> tuple[TrainConfig, tuple[str, ...]]:
    """`config` with the hash of the teacher, which must fit the classes of the data; and a sentence
    for each setting that these data leave unread.

    draft, layers: where the settings come from; no layers of a run that is resumed, whose settings
    were asked before.
    Raises UsageError VIT-246 for a setting without effect, DataError VIT-304 for one class, and
    what `check_teacher` raises.
    """
    said = Said.of(draft, layers)
    refuse_idle(config, splits, said)
    if config.objective == "classify" and len(splits.classes) < 2:
        raise DataError(
            "VIT-304",
            f"{splits.name} has one class ({', '.join(splits.classes)}); a classifier needs two.",
            hint="Add a second class folder.",
        )
    if config.distill.teacher:
        config = check_teacher(config, splits.classes)
    return config, unread(config, splits, said)


def check_teacher(config: TrainConfig, classes: Sequence[str]) -> TrainConfig:
    """`config` with the hash of the teacher, which is opened to see that it fits.

    Raises what `open_teacher` raises.
    """
    distill = config.distill
    found, model_config, sha256 = load_pinned(distill.teacher, distill.sha256, "distill.teacher")
    class_columns(distill.teacher, found.classes, model_config.num_classes, classes)
    return config.model_copy(update={"distill": distill.model_copy(update={"sha256": sha256})})


def class_columns(
    name: str, known: Sequence[str], outputs: int, classes: Sequence[str]
) -> list[int]:
    """Which output of the teacher stands for each of `classes`.

    known: its classes, by name; without names its `outputs` must be as many as the classes are.
    Raises UsageError VIT-252 where one is missing.
    """
    if not known:
        if outputs == len(classes):
            return list(range(outputs))
        raise UsageError(
            "VIT-252",
            f"teacher {name} has {count(outputs, 'output')} without names; the data has "
            f"{count(len(classes), 'class')}.",
            hint="Choose a teacher that was trained on these classes.",
        )
    place_of = {name: place for place, name in reversed([*enumerate(known)])}
    missing = [one for one in classes if one not in place_of]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise UsageError(
            "VIT-252",
            f"teacher {name} does not know the class {shown}; it knows "
            f"{', '.join(known[:5])}{' ...' if known[5:] else ''}.",
            hint="Choose a teacher that was trained on these classes.",
        )
    return [place_of[one] for one in classes]

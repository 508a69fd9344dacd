"""Settings against one another and against the classes of the data, before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitrail.config import TrainConfig
from vitrail.data.sources.open_data import Splits
from vitrail.errors import DataError, UsageError
from vitrail.spelling import count
from vitrail.training.plan.pinned_model import load_pinned


def check_settings(config: TrainConfig, splits: Splits) -> TrainConfig:
    """`config` with the hash of the teacher, which must fit the classes of the data.

    Raises UsageError VIT-246 for a setting without effect, DataError VIT-304 for one class, and
    what `check_teacher` raises.
    """
    for key, why in idle_settings(config):
        raise UsageError("VIT-246", f"{key} has no effect: {why}.", hint="Leave it out.")
    if config.objective == "classify" and len(splits.classes) < 2:
        raise DataError(
            "VIT-304",
            f"{splits.name} has one class ({', '.join(splits.classes)}); a classifier needs two.",
            hint="Add a second class folder.",
        )
    return check_teacher(config, splits.classes) if config.distill.teacher else config


def idle_settings(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """(setting, why it does nothing) of what was changed and is read by nothing."""
    data, distill = config.data, config.distill
    without = {
        "start": (config.start.model == "", "no model to start from was given (--from)"),
        "lora": (config.lora.rank == 0, "there are no adapters (--lora-rank)"),
        "distill": (distill.teacher == "", "there is no teacher (--teacher)"),
    }
    for section, (is_idle, why) in without.items():
        for key in _changed(config, section) if is_idle else ():
            yield f"{section}.{key}", why
    for key in ("resize", "interpolation", "normalize"):
        if without["start"][0] and data.model_dump()[key] == "source":
            yield f"data.{key} source", without["start"][1]
    if distill.teacher and distill.kind == "hard" and "temperature" in _changed(config, "distill"):
        yield "distill.temperature", "it belongs to --distill.kind soft"
    if data.resize == "source" and data.crop_fraction != 1.0:
        yield "data.crop_fraction", "images are resized as the model was trained"
    if config.freeze == "body" and config.optim.layer_decay < 1:
        yield "optim.layer_decay", "only the head is trained (--freeze body)"


def _changed(config: TrainConfig, section: str) -> list[str]:
    values, plain = config.model_dump()[section], TrainConfig().model_dump()[section]
    return [key for key, value in values.items() if value != plain[key]]


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

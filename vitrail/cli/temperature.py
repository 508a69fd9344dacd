"""`vitrail eval --calibrate`: the temperature of a model folder, written into its model.json.

Only the record is written again, by a rename: weights and sha256 stay. Figures in it that hold for
the old temperature only are replaced or removed; the card is written again unless somebody edited
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.errors import UsageError
from vitrail.files import write_together
from vitrail.folder import Folder

if TYPE_CHECKING:
    from vitrail.evaluation.calibrate import Calibration
    from vitrail.evaluation.record import Evaluation
    from vitrail.model_folder.model_record import Record

DEPENDENT = ("nll", "ece", "brier")  # figures that a temperature changes
KEPT = ("n", "top1", "top1_interval", "top5", "nll", "ece", "f1_macro")  # as training keeps them


def model_folder(model: Path) -> Path:
    """The folder whose model.json holds the temperature of `model`.

    Raises UsageError VIT-285 where there is none: a zip, a checkpoint of another library, or a
    name, which is not downloaded for it.
    """
    from vitrail.checkpoints.hub.resolve import address_of
    from vitrail.model_folder.bundle import RECORD
    from vitrail.open_model import find_model

    place = model if address_of(str(model)) else find_model(model)
    if not (place / RECORD).is_file():
        raise UsageError(
            "VIT-285",
            f"--calibrate: {model} is no model folder, so it has no place for a temperature.",
            hint=f"Make it one: vitrail convert {model} OUT --to vitrail",
        )
    return place


def store(folder: Path, found: Calibration, judged: Mapping[str, Evaluation]) -> list[str]:
    """Write the temperature into `folder`/model.json; `judged` are splits measured with it.

    Returns what to tell. Raises EnvironmentFault VIT-506 where nothing can be written.
    """
    from vitrail.model_folder.bundle import CARD, RECORD
    from vitrail.model_folder.model_card import card_of
    from vitrail.model_folder.model_record import MAX_RECORD_BYTES, parse_record

    files_of = Folder(folder)
    record, _, _ = parse_record(files_of.read(RECORD, MAX_RECORD_BYTES), folder / RECORD)
    updated = with_temperature(record, found, judged)
    text = updated.to_text()
    parse_record(text.encode(), folder / RECORD)  # what is written can be read
    files = {RECORD: text}
    said = [f"wrote the temperature into {folder / RECORD}"]
    if files_of.has(CARD) and files_of.read(CARD, 64 << 20).decode("utf-8", "replace") == card_of(
        record
    ):
        files[CARD] = card_of(updated)
    elif files_of.lies(CARD):
        said.append(
            f"{folder / CARD} was edited and stays: its nll and ece are of the old temperature"
        )
    write_together(folder, files, replace=True)
    return said


def with_temperature(
    record: Record, found: Calibration, judged: Mapping[str, Evaluation]
) -> Record:
    """The record with the new temperature and without figures of the old one."""
    metrics: dict[str, Any] = {}
    for split, figures in record.metrics.items():
        is_split = isinstance(figures, Mapping)
        metrics[split] = _without(figures) if is_split else figures
    for split, evaluation in judged.items():
        figures = evaluation.to_json()
        metrics[split] = {key: figures[key] for key in KEPT}
    note = (
        f"{found.n} {found.split} images: nll {found.nll[0]:.4f} to {found.nll[1]:.4f}, "
        f"ece {found.ece[0]:.4f} to {found.ece[1]:.4f}"
    )
    return record.model_copy(
        update={
            "temperature": found.temperature,
            "metrics": metrics,
            "trained_on": {**record.trained_on, "temperature_fitted_on": note},
        }
    )


def _without(figures: Any) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key not in DEPENDENT}

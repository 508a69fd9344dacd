"""An export as a classifier, computed by its own engine. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from vitrail.classifier import Classifier, Meta
from vitrail.device import num_threads
from vitrail.model_folder.bundle import examples_in
from vitrail.model_folder.export_record import ExportRecord, read_export
from vitrail.runtime.onnx_runtime import OnnxRuntime
from vitrail.runtime.onnx_session import OnnxSession


def open_export(path: Path, *, threads: int | None = None) -> Classifier:
    """The classifier of the export in the folder `path`; threads: of the engine, by default as many
    as torch would have.

    Raises ModelError VIT-434, VIT-435, VIT-471 to VIT-473; EnvironmentFault VIT-520, VIT-525.
    """
    found = read_export(path)
    record, made, about = found.record, found.preprocess, found.about
    title = str(path / about.file.name)
    session = OnnxSession(found.content, title, threads=threads or num_threads()[0])
    runtime = OnnxRuntime(session, made.mean, made.std, about.file.precision, best_batch(about))
    meta = Meta(
        record.architecture.name,
        record.trained_on,
        record.metrics,
        record.versions,
        record.scores,
        record.origin,
    )
    return Classifier(
        None,
        made,
        record.classes,
        record.temperature,
        meta,
        examples_in(path, record),
        runtime,
    )


def best_batch(about: ExportRecord) -> int:
    """Images at a time that were computed fastest where the export was made."""
    rates = about.speed.get("images_per_s")
    if not isinstance(rates, dict):
        return 1
    return int(max(rates, key=lambda size: float(str(rates[size]))))

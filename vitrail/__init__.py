"""Vitrail trains, compares, explains and ships Vision Transformer image classifiers.

The names below are the public API; each is loaded when first used, so that importing the package
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail import errors
    from vitrail.api.conversion import Conversion, Inspection, convert, inspect_checkpoint
    from vitrail.api.datasets import DataCheck, check_data, get_data, show_data, split_data
    from vitrail.api.doctor import doctor, replay
    from vitrail.api.engine_export import export
    from vitrail.api.explanations import (
        Faithfulness,
        Sheets,
        explain_sheets,
        faithfulness,
        model_figures,
    )
    from vitrail.api.hub_push import Pushed, push
    from vitrail.api.learning_rate import lr_find
    from vitrail.api.model_list import download, models, weights
    from vitrail.api.predictions import predict, predict_table
    from vitrail.api.probing import probe
    from vitrail.api.run_list import Runs, runs
    from vitrail.api.run_report import report
    from vitrail.api.serving import Serving, serve
    from vitrail.api.shards import index_data, shard_data
    from vitrail.api.studies import StudyResult, compare, study
    from vitrail.api.training import resume, train
    from vitrail.api.tuning import tune
    from vitrail.classifier import Classifier, load
    from vitrail.config import TrainConfig
    from vitrail.data.images.preprocess import Preprocess
    from vitrail.data.sources.open_data import open_data
    from vitrail.errors import VitrailError
    from vitrail.evaluation.probes.probe_record import Probe
    from vitrail.evaluation.record import Evaluation
    from vitrail.explain.explanation import Explanation
    from vitrail.explain.inspect.inspection_figures import FigureFiles
    from vitrail.export.export_model import Exported
    from vitrail.models.create import create_model
    from vitrail.models.vit.config import ViTConfig
    from vitrail.prediction import Prediction
    from vitrail.training.lr_sweep import LrFind
    from vitrail.training.replay import Replay
    from vitrail.training.reporter import RunResult

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Conversion",
    "DataCheck",
    "Evaluation",
    "Explanation",
    "Exported",
    "Faithfulness",
    "FigureFiles",
    "Inspection",
    "LrFind",
    "Prediction",
    "Preprocess",
    "Probe",
    "Pushed",
    "Replay",
    "RunResult",
    "Runs",
    "Serving",
    "Sheets",
    "StudyResult",
    "TrainConfig",
    "ViTConfig",
    "VitrailError",
    "check_data",
    "compare",
    "convert",
    "create_model",
    "doctor",
    "download",
    "errors",
    "explain_sheets",
    "export",
    "faithfulness",
    "get_data",
    "index_data",
    "inspect_checkpoint",
    "load",
    "lr_find",
    "model_figures",
    "models",
    "open_data",
    "predict",
    "predict_table",
    "probe",
    "push",
    "replay",
    "report",
    "resume",
    "runs",
    "serve",
    "shard_data",
    "show_data",
    "split_data",
    "study",
    "train",
    "tune",
    "weights",
]

_HOME = {
    "Classifier": "vitrail.classifier",
    "Conversion": "vitrail.api.conversion",
    "DataCheck": "vitrail.api.datasets",
    "Evaluation": "vitrail.evaluation.record",
    "Explanation": "vitrail.explain.explanation",
    "Exported": "vitrail.export.export_model",
    "Faithfulness": "vitrail.api.explanations",
    "FigureFiles": "vitrail.explain.inspect.inspection_figures",
    "Inspection": "vitrail.api.conversion",
    "LrFind": "vitrail.training.lr_sweep",
    "Prediction": "vitrail.prediction",
    "Preprocess": "vitrail.data.images.preprocess",
    "Probe": "vitrail.evaluation.probes.probe_record",
    "Pushed": "vitrail.api.hub_push",
    "Replay": "vitrail.training.replay",
    "RunResult": "vitrail.training.reporter",
    "Runs": "vitrail.api.run_list",
    "Serving": "vitrail.api.serving",
    "Sheets": "vitrail.api.explanations",
    "StudyResult": "vitrail.api.studies",
    "TrainConfig": "vitrail.config",
    "ViTConfig": "vitrail.models.vit.config",
    "VitrailError": "vitrail.errors",
    "check_data": "vitrail.api.datasets",
    "compare": "vitrail.api.studies",
    "convert": "vitrail.api.conversion",
    "create_model": "vitrail.models.create",
    "doctor": "vitrail.api.doctor",
    "download": "vitrail.api.model_list",
    "explain_sheets": "vitrail.api.explanations",
    "faithfulness": "vitrail.api.explanations",
    "get_data": "vitrail.api.datasets",
    "index_data": "vitrail.api.shards",
    "inspect_checkpoint": "vitrail.api.conversion",
    "load": "vitrail.classifier",
    "lr_find": "vitrail.api.learning_rate",
    "model_figures": "vitrail.api.explanations",
    "open_data": "vitrail.data.sources.open_data",
    "predict": "vitrail.api.predictions",
    "predict_table": "vitrail.api.predictions",
    "probe": "vitrail.api.probing",
    "push": "vitrail.api.hub_push",
    "replay": "vitrail.api.doctor",
    "resume": "vitrail.api.training",
    "shard_data": "vitrail.api.shards",
    "show_data": "vitrail.api.datasets",
    "split_data": "vitrail.api.datasets",
    "study": "vitrail.api.studies",
    "train": "vitrail.api.training",
    "tune": "vitrail.api.tuning",
    "weights": "vitrail.api.model_list",
}
_FOLDERS = ("errors", "export", "models", "report", "runs", "serve")  # all but errors can be called


def __getattr__(name: str) -> Any:
    if name not in _HOME and name not in _FOLDERS:
        raise AttributeError(f"module 'vitrail' has no attribute {name!r}")
    if name == "errors":
        return import_module("vitrail.errors")
    import_module("vitrail.system.supported").require_posix()
    if name in _FOLDERS:
        return import_module(f"vitrail.{name}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"])

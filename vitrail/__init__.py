"""Vitrail trains, compares, explains and ships Vision Transformer image classifiers.

The names below are the public API; each is loaded when first used, so that importing the package
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail import errors
    from vitrail.api.conversion import Conversion, convert
    from vitrail.api.doctor import doctor
    from vitrail.api.engine_export import export
    from vitrail.api.learning_rate import lr_find
    from vitrail.api.run_list import Runs, runs
    from vitrail.api.run_report import report
    from vitrail.api.studies import StudyResult, compare, study
    from vitrail.api.training import resume, train
    from vitrail.classifier import Classifier, load
    from vitrail.config import TrainConfig
    from vitrail.data.images.preprocess import Preprocess
    from vitrail.data.sources.open_data import open_data
    from vitrail.evaluation.record import Evaluation
    from vitrail.explain.explanation import Explanation
    from vitrail.export.export_model import Exported
    from vitrail.models.create import create_model
    from vitrail.models.vit.config import ViTConfig
    from vitrail.prediction import Prediction
    from vitrail.training.lr_sweep import LrFind
    from vitrail.training.reporter import RunResult

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Conversion",
    "Evaluation",
    "Explanation",
    "Exported",
    "LrFind",
    "Prediction",
    "Preprocess",
    "RunResult",
    "Runs",
    "StudyResult",
    "TrainConfig",
    "ViTConfig",
    "compare",
    "convert",
    "create_model",
    "doctor",
    "errors",
    "export",
    "load",
    "lr_find",
    "open_data",
    "report",
    "resume",
    "runs",
    "study",
    "train",
]

_HOME = {
    "Classifier": "vitrail.classifier",
    "Conversion": "vitrail.api.conversion",
    "Evaluation": "vitrail.evaluation.record",
    "Explanation": "vitrail.explain.explanation",
    "Exported": "vitrail.export.export_model",
    "LrFind": "vitrail.training.lr_sweep",
    "Prediction": "vitrail.prediction",
    "Preprocess": "vitrail.data.images.preprocess",
    "RunResult": "vitrail.training.reporter",
    "Runs": "vitrail.api.run_list",
    "StudyResult": "vitrail.api.studies",
    "TrainConfig": "vitrail.config",
    "ViTConfig": "vitrail.models.vit.config",
    "compare": "vitrail.api.studies",
    "convert": "vitrail.api.conversion",
    "create_model": "vitrail.models.create",
    "doctor": "vitrail.api.doctor",
    "load": "vitrail.classifier",
    "lr_find": "vitrail.api.learning_rate",
    "open_data": "vitrail.data.sources.open_data",
    "resume": "vitrail.api.training",
    "study": "vitrail.api.studies",
    "train": "vitrail.api.training",
}
_FOLDERS = ("errors", "export", "report", "runs")  # the last three can be called


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

"""Vitrail trains, compares, explains and ships Vision Transformer image classifiers.

The names below are the public API; each is loaded when first used, so that importing the package
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail import errors
    from vitrail.classifier import Classifier, load
    from vitrail.config import TrainConfig
    from vitrail.data.images.preprocess import Preprocess
    from vitrail.data.sources.open_data import open_data
    from vitrail.models.create import create_model
    from vitrail.models.vit.config import ViTConfig
    from vitrail.training.api import resume, train

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Preprocess",
    "TrainConfig",
    "ViTConfig",
    "create_model",
    "errors",
    "load",
    "open_data",
    "resume",
    "train",
]

_HOME = {
    "Classifier": "vitrail.classifier",
    "Preprocess": "vitrail.data.images.preprocess",
    "TrainConfig": "vitrail.config",
    "ViTConfig": "vitrail.models.vit.config",
    "create_model": "vitrail.models.create",
    "load": "vitrail.classifier",
    "open_data": "vitrail.data.sources.open_data",
    "resume": "vitrail.training.api",
    "train": "vitrail.training.api",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("vitrail.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'vitrail' has no attribute {name!r}")
    import_module("vitrail.system.supported").require_posix()
    return getattr(import_module(_HOME[name]), name)

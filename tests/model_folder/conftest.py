"""A small classifier, and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model_folder.classifiers import classifier_of
from vitrail.classifier import Classifier


@pytest.fixture
def classifier() -> Classifier:
    return classifier_of()


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "model")
    return tmp_path / "model"

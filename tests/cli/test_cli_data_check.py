"""`vitrail data check`: copies and doubtful labels are printed, counted and written down."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.cli_command import run
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.open_data import ArraySource, open_data
from vitrail.models.create import create_model


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 digits as .npz: five test images stand in train too, label 7 of train is wrong."""
    train = open_data("builtin:digits").train
    assert isinstance(train, ArraySource)
    images, labels = train.images[:600].copy(), train.labels[:600].copy()
    images[500:505], labels[500:505] = images[:5], labels[:5]
    labels[7] = (labels[7] + 5) % 10
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(
        path, x_train=images[:500], y_train=labels[:500], x_test=images[500:], y_test=labels[500:]
    )
    return path


def test_copies_and_doubtful_labels(digits: Path, tmp_path: Path) -> None:
    done = run("data", "check", digits, "--labels", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "5 of 100 test images (5.0 %) are also in train" in done.out
    assert "of 600 may be wrong; leave-one-out ridge regression" in done.out
    rows = list(csv.reader((tmp_path / "out/duplicates.csv").read_text().splitlines()))
    assert len(rows) == 1 + 2 * 5
    suspects = list(csv.reader((tmp_path / "out/label_suspects.csv").read_text().splitlines()))
    assert any(row[1].endswith(":7") and row[2] != row[3] for row in suspects[1:])
    page = (tmp_path / "out/data_report.html").read_text(encoding="utf-8")
    assert 'id="leakage"' in page
    assert 'id="labels"' in page
    assert page.count("<img") >= 10
    again = run("data", "check", digits, "--labels", "--out", tmp_path / "out")
    assert again.code == 2
    assert "VIT-206" in again.err


def test_json_has_groups_and_suspects(digits: Path) -> None:
    document = run("data", "check", digits, "--labels", "--json").document
    assert len(document["groups"]) == 5
    assert document["leaked"] == {"test": 5}
    assert any(one["source"].endswith(":7") for one in document["label_suspects"]["found"])
    assert "gradients" in document["label_suspects"]["origin"]
    assert "label_suspects" not in run("data", "check", digits, "--json").document


def test_strict_counts_leakage(digits: Path) -> None:
    done = run("data", "check", digits, "--strict")
    assert done.code == 7
    assert "VIT-702" in done.err


def test_labels_by_the_features_of_a_model(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = create_model("vit_digits", num_classes=3, image_size=(8, 8), channels=1)
    preprocess = Preprocess(
        height=8,
        width=8,
        resize=(8, 8),
        crop="none",
        interpolation="bilinear",
        mean=(0.5,),
        std=(0.5,),
    )
    Classifier(model, preprocess, ("a", "b", "c")).save(tmp_path / "model")
    done = run("data", "check", digits, "--features", tmp_path / "model", "--json")
    assert done.code == 0, done.err
    found = done.document["label_suspects"]
    assert found["n"] == 600
    assert "features of" in found["origin"]


def test_several_labels_cannot_be_doubted(tmp_path: Path) -> None:
    lines = ["path,label"]
    for number in range(12):
        Image.new("RGB", (9, 8), (number * 20, 0, 0)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'a|b' if number % 2 else 'a'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run("data", "check", tmp_path / "labels.csv", "--labels")
    assert done.code == 3
    assert "VIT-370" in done.err

"""The images of a report are found again in the run's own data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.classifier import Classifier
from vitrail.config import DataConfig, TrainConfig
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.examples import FILE, examples_of
from vitrail.data.sources.open_data import open_data
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.run_data import place_record
from vitrail.model_folder.description import Meta
from vitrail.models.create import create_model
from vitrail.report.run_images import open_images
from vitrail.report.run_record import read_run
from vitrail.report.run_report import write_report
from vitrail.settings.toml_file import to_toml


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on 24 files of two classes, with a model and an evaluated test split."""
    data = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for i in range(24):
        folder = data / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (53, 61, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    splits = open_data(data)
    assert splits.test is not None
    path = tmp_path / "run"
    model = create_model("vit_mu8", num_classes=2, image_size=(16, 24))
    preprocess = Preprocess(height=16, width=24, resize=(16, 24))
    Classifier(model, preprocess, splits.classes, meta=Meta(name="vit_mu8")).save(path / "model")
    config = TrainConfig(epochs=1, data=DataConfig(path=str(data), image_size=(16, 24)))
    (path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    (path / "run.json").write_text(json.dumps({"status": "finished"}))
    document = {"name": "photos", "classes": list(splits.classes)}
    document |= place_record(str(data), path)
    (path / "data.json").write_text(json.dumps(document))
    (path / FILE).write_bytes(examples_of(splits, is_whole=True).to_bytes())
    from vitrail.data.loading.batching import Batching
    from vitrail.data.loading.loader import make_loader

    batches = make_loader(splits.test, preprocess, None, Batching(3)).eval_batches(3)
    found = evaluate(
        Classifier(model, preprocess, splits.classes).runtime.logits,
        batches,
        preprocess,
        splits.classes,
        source_id=splits.test.source_id,
    )
    found.write(path / "eval" / "test")
    return path


def test_images_and_samples_come_from_the_data(run: Path, tmp_path: Path) -> None:
    record = read_run(run)
    pictures = open_images(record)
    assert pictures.why_not == ""
    for row in record.splits[0].rows:
        found = pictures.find("test", row.source)
        assert found is not None
        expected = np.asarray(Image.open(tmp_path / "photos" / row.source))
        assert np.array_equal(found, expected)
    assert pictures.find("test", "no such") is None
    assert pictures.find("other", record.splits[0].rows[0].source) is None
    samples = pictures.samples()
    assert len(samples) == 6
    assert {sample.label for sample in samples} == {"cat", "dog"}
    for sample in samples:
        assert sample.original.shape == (53, 61, 3)
        assert [version.shape for version in sample.versions] == [(16, 24, 3)] * 3


def test_the_report_shows_them(run: Path) -> None:
    write_report(run)
    page = (run / "report.html").read_text()
    assert page.count("<img") > 24
    assert 'id="samples"' in page


def test_changed_data_are_not_shown(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat" / "new.png").write_bytes(b"x" * 99)
    assert open_images(read_run(run)).why_not == ""  # those that were judged are there
    judged = read_run(run).splits[0].rows[0].source
    (tmp_path / "photos" / judged).write_bytes(b"x" * 99)
    pictures = open_images(read_run(run))
    assert "1 of the " in pictures.why_not
    assert pictures.find("test", "cat/1.png") is None
    assert pictures.samples() == []

"""The measure "sizes" of vitrail/studies/engine/measures.py, and the figures of masked patches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.sources.open_data import open_data
from vitrail.models.create import create_model
from vitrail.models.names import resolve_model
from vitrail.studies.engine import measures
from vitrail.studies.engine.job import Job, run_job


def classifier_of(size: tuple[int, int], patch: tuple[int, int], classes: list[str]) -> Classifier:
    """Random weights, learned position embeddings that matter."""
    fields = {"width": 24, "num_heads": 2, "patch_size": patch, "posemb": "learned"}
    config = resolve_model(
        "vit_digits", num_classes=len(classes), image_size=size, overrides={**fields, "channels": 1}
    )
    generator = torch.Generator().manual_seed(7)
    model = create_model(config)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    preprocess = Preprocess(
        height=size[0], width=size[1], resize=size, crop="none", mean=(0.5,), std=(0.5,)
    )
    return Classifier(model, preprocess, classes)


def test_sizes_are_those_of_the_ladder_and_its_own_is_untouched() -> None:
    splits = open_data("builtin:digits", seed=0)
    classifier = classifier_of((8, 8), (2, 2), list(splits.classes))
    found = measures.sizes(classifier, splits, splits)
    held = splits.test
    assert held is not None
    assert found.pop("sizes/n") == len(held)
    assert set(found) == {f"sizes/top1@{px}" for px in (4, 6, 8, 10, 12, 14, 16)}
    assert found["sizes/top1@8"] == measures._top1(classifier, held)
    assert len(set(found.values())) > 1


def test_few_images_are_looked_at_in_many_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = open_data("builtin:digits", seed=0)
    monkeypatch.setattr("vitrail.studies.engine.grids.NUM_IMAGES", 20)
    found = measures.sizes(classifier_of((8, 8), (4, 4), list(splits.classes)), splits, splits)
    assert 10 < found["sizes/n"] <= 20


def test_the_pace_knows_what_judging_in_many_sizes_costs() -> None:
    splits = open_data("builtin:digits", seed=0)
    assert splits.test is not None
    model = classifier_of((8, 8), (4, 4), list(splits.classes)).model.config
    # Grids of 2, 3 and 4 patches a side, of a model with 2.
    expected = round(len(splits.test) * (1 + 9 / 4 + 4))
    assert measures.num_judged(("sizes",), model, splits) == expected  # type: ignore[arg-type]
    assert measures.num_judged(("few-shot",), model, splits) == 0  # type: ignore[arg-type]


def test_columns_go_with_rows() -> None:
    model = classifier_of((15, 14), (3, 7), ["a", "b"]).model
    assert model.config.grid == (5, 2)  # type: ignore[union-attr]
    sizes = [measures._size_of(model.config, side) for side in (3, 5, 10)]  # type: ignore[arg-type]
    assert sizes == [(9, 7), (15, 14), (30, 28)]


def test_figures_of_masked_patches_are_not_called_top1(tmp_path: Path) -> None:
    settings = {
        "data.path": "builtin:digits",
        "data.image_size": (8, 8),
        "data.workers": 0,
        "model.name": "vit_ti2",
        "model.width": 16,
        "model.depth": 2,
        "model.num_heads": 2,
        "model.mlp_dim": 23,
        "examples": 128,
        "batch_size": 64,
        "threads": 1,
        "device": "cpu",
        "precision": "float32",
        "eval_every_epochs": 1e6,
    }
    (tmp_path / "runs").mkdir()
    job = Job(
        key="k",
        study="made",
        arm="masked",
        axes={},
        seed=0,
        recipe="paper.masked_patches",
        settings=settings,
        folder=str(tmp_path),
    )
    row = run_job(job, lambda share: None)
    assert row is not None
    values = row["values"]
    assert 0 < values["val/patches/top1"] < 1
    assert values["val/patches/nll"] > 0
    assert not {"val/top1", "test/top1"} & set(values)

"""Model folders are whole, movable, and give the model that was saved."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import vitrail
from tests.model_folder.classifiers import (
    CLASSES,
    META,
    PREPROCESS,
    pictures,
    refuses,
    rewrite,
    some_model,
)
from tests.models.check_model import random_model
from vitrail.classifier import Classifier, load
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.model_folder import bundle
from vitrail.models.cost import parameters, running_values
from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig
from vitrail.open_model import find_model


def test_a_saved_model_is_the_same_model(classifier: Classifier, folder: Path) -> None:
    loaded = vitrail.load(folder)
    assert loaded.classes == CLASSES
    assert loaded.preprocess == PREPROCESS
    assert loaded.temperature == 1.5
    assert loaded.meta.trained_on == META.trained_on
    assert loaded.meta.metrics == META.metrics
    assert loaded.meta.versions["vitrail"] == vitrail.__version__
    assert not loaded.model.training
    assert loaded.predict(pictures(3)) == classifier.predict(pictures(3))
    for name, value in classifier.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert all(value.requires_grad for value in loaded.model.parameters())


@pytest.mark.parametrize("norm", ["batch", "group_std"])
@pytest.mark.parametrize("name", ["resnet_ti", "vit_ti4"])
def test_running_values_are_in_the_file(
    name: str, norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A residual network and a ViT behind a residual stem come back to the bit, and their size is
    that of the file; the card says what it is."""
    stem = {"stem": "residual", "stem_norm": norm, "width": 24, "num_heads": 3, "depth": 1}
    config = resolve_model(
        name,
        num_classes=5,
        image_size=(10, 14),
        overrides={"norm": norm} if name == "resnet_ti" else stem | {"patch_size": 1},
    )
    classifier = Classifier(random_model(config, dtype=torch.float32), PREPROCESS, CLASSES)
    classifier.save(tmp_path / "m")
    size = (tmp_path / "m" / "model.safetensors").stat().st_size
    numbers = parameters(config) + running_values(config)
    monkeypatch.setattr(bundle, "HEADER_BYTES", size - 4 * numbers)
    loaded = load(tmp_path / "m")
    for key, value in classifier.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value)
    assert loaded.predict(pictures(3)) == classifier.predict(pictures(3))
    kind = "residual-network" if name == "resnet_ti" else "vision-transformer"
    assert f"- {kind}\n" in (tmp_path / "m" / "README.md").read_text()
    document = json.loads((tmp_path / "m" / "model.json").read_text())
    assert document["architecture"]["family"] == config.family


@pytest.mark.parametrize("posemb", ["learned", "sincos_2d", "rope_2d", "relative", "learned_2d"])
def test_fixed_tables_are_not_in_the_file_and_come_back(posemb: Any, tmp_path: Path) -> None:
    config = ViTConfig(
        image_size=(10, 14),
        patch_size=(5, 7),
        width=16,
        depth=1,
        num_heads=2,
        mlp_dim=17,
        num_classes=5,
        posemb=posemb,
    )
    classifier = Classifier(some_model(config), PREPROCESS, CLASSES)
    classifier.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert not any(value.is_meta for value in [*loaded.model.parameters(), *loaded.model.buffers()])
    assert loaded.predict(pictures(2)) == classifier.predict(pictures(2))


def test_model_json_has_the_documented_keys(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert list(document) == [
        "schema",
        "architecture",
        "classes",
        "preprocess",
        "temperature",
        "scores",
        "trained_on",
        "metrics",
        "versions",
        "sha256",
        "digest",
    ]
    assert set(document["architecture"]) == {"family", "name", "numbers"}
    assert document["preprocess"]["resize"] == [10, 14]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
    ]


def test_the_card_has_hub_front_matter_that_cannot_be_broken_out_of(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    _, header, body = card.split("---\n", 2)
    for line in (
        "library_name: vitrail",
        "pipeline_tag: image-classification",
        "- type: accuracy",
        "value: 0.9611",
    ):
        assert line in header
    assert "license:" not in header
    assert "&lt;script" in body
    assert "<script" not in card
    assert "a \\| b\\\\x0a---\\\\x0ac" in body  # a line break of a note is seen, and breaks nothing


def test_moved_renamed_and_read_only(classifier: Classifier, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "else where" / "renamed \u00e4"
    place.parent.mkdir()
    shutil.move(folder, place)
    for path in place.iterdir():
        path.chmod(0o444)
    place.chmod(0o555)
    try:
        assert load(place).predict(pictures(1)) == classifier.predict(pictures(1))
    finally:
        place.chmod(0o755)


@pytest.mark.parametrize("prefix", ["", "model/", "a/b/"])
def test_zipped(classifier: Classifier, folder: Path, tmp_path: Path, prefix: str) -> None:
    target = tmp_path / "m.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, prefix + path.name)
    assert load(target).predict(pictures(1)) == classifier.predict(pictures(1))


def test_a_loaded_model_does_not_need_its_file_any_more(
    classifier: Classifier, folder: Path
) -> None:
    loaded = load(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\0" * weights.stat().st_size)
    shutil.rmtree(folder)
    assert loaded.predict(pictures(1)) == classifier.predict(pictures(1))


def test_half_precision_weights_are_computed_in_float32(folder: Path) -> None:
    weights = {key: value.half() for key, value in load_file(folder / "model.safetensors").items()}
    rewrite(folder, weights)
    loaded = load(folder)
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}
    assert torch.equal(loaded.model.head.weight, weights["head.weight"].float())  # type: ignore[union-attr,arg-type]


def test_a_run_stands_for_its_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert find_model(tmp_path) == folder
    assert find_model(folder / "model.safetensors") == folder
    shutil.rmtree(folder)
    refuses(tmp_path, "VIT-432", "--resume")


def test_nothing_is_overwritten_and_nothing_is_left_behind(
    classifier: Classifier, folder: Path
) -> None:
    before = (folder / "model.json").read_bytes()
    with pytest.raises(ModelError) as caught:
        classifier.save(folder)
    assert caught.value.code == "VIT-440"
    assert (folder / "model.json").read_bytes() == before
    changed = Classifier(some_model(seed=1), PREPROCESS, CLASSES)
    changed.save(folder, replace=True)
    assert load(folder).predict(pictures(1)) == changed.predict(pictures(1))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_what_was_there(
    classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitrail.files.flush_to_disk", full)
    for target, replace in ((folder, True), (folder.parent / "new", False)):
        with pytest.raises(EnvironmentFault, match="No space left") as caught:
            classifier.save(target, replace=replace)
        assert caught.value.code == "VIT-506"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    load(folder)


def test_files_are_readable_for_others_as_umask_says(
    classifier: Classifier, tmp_path: Path
) -> None:
    old = os.umask(0o022)
    try:
        classifier.save(tmp_path / "m")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "m").iterdir()}
    assert modes == {0o644}
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o755

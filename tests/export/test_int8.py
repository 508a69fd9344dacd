"""int8: what keeps the budget is written, what does not is refused, and why."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.export.exported import classifier_of, trained_on, trained_on_digits
from vitrail.classifier import Classifier, load
from vitrail.data.sources.open_data import open_data
from vitrail.errors import GateError, UsageError
from vitrail.export.candidates import by_torch
from vitrail.export.check_images import CheckImages, read_images
from vitrail.export.engine_file import graph_of
from vitrail.export.equalise import equalise, pairs_of
from vitrail.export.export_model import answers, export_model
from vitrail.export.gate import Comparison
from vitrail.export.int8 import Found, Int8, Quantisation, budget, quantise, speedup_of
from vitrail.export.likeness import features, require_alike, shift
from vitrail.models.create import create_model
from vitrail.models.resnet.config import ResNetConfig
from vitrail.models.vit.config import ViTConfig
from vitrail.runtime.engines import is_installed
from vitrail.runtime.onnx_session import OnnxSession
from vitrail.serve.self_check import check_engine


def digits(classifier: Classifier, split: str, most: int = 200) -> CheckImages:
    return images_of("builtin:digits", classifier, split, most)


def images_of(data: str, classifier: Classifier, split: str, most: int) -> CheckImages:
    source = open_data(data).parts()[split]
    return read_images(source, classifier.preprocess, classifier.classes, split=split, most=most)


def plant(model: torch.nn.Module, factor: float = 100.0) -> None:
    """One channel of each LayerNorm so many times as large: the same function of images."""
    for index, (norm, dense) in enumerate(pairs_of(model)):
        column = model.get_submodule(dense).get_parameter("weight")
        channel = 7 * index % column.shape[1]
        with torch.no_grad():
            model.get_submodule(norm).get_parameter("weight")[channel] *= factor
            model.get_submodule(norm).get_parameter("bias")[channel] *= factor
            column[:, channel] /= factor


def quantised(
    classifier: Classifier, asked: Int8, images: CheckImages | None = None
) -> Quantisation:
    images = images or digits(classifier, "val")
    expected = answers(by_torch(classifier, "float32"), images)
    return quantise(
        graph_of(classifier),
        "{}",
        expected,
        images,
        asked,
        opset=20,
        threads=1,
        say=lambda text: None,
    )


def exported(classifier: Classifier, out: Path, asked: Int8 | None = None) -> Path:
    asked = asked or Int8(digits(classifier, "train"), max_drop=1.0)
    export_model(classifier, out, digits(classifier, "val"), precision="int8", int8=asked)
    return out


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return trained_on_digits()


@pytest.fixture(scope="module")
def export(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(classifier, tmp_path_factory.mktemp("int8") / "out")


def test_the_file_is_static_and_of_standard_operators(export: Path) -> None:
    document = onnx.load(export / "model.int8.onnx")
    kinds = [node.op_type for node in document.graph.node]
    assert {node.domain for node in document.graph.node} == {""}
    assert "DynamicQuantizeLinear" not in kinds
    stored = [one for one in document.graph.initializer if one.data_type == onnx.TensorProto.INT8]
    weights = [one for one in stored if len(one.dims) == 2]
    assert len(weights) == 9  # 2 blocks of 4, of which the last one's q is a product of its own
    assert max(np.abs(onnx.numpy_helper.to_array(one)).max() for one in weights) <= 64  # 7 bits


def test_what_the_record_says(export: Path) -> None:
    about = load(export, engine="onnx").runtime.info
    assert (about.engine, about.precision) == ("onnx", "int8")
    assert load(export).runtime.info.precision == "int8"
    text = (export / "export.json").read_text()
    for name in ("blocks.0.attn.qkv", "blocks.1.attn.qkv[24:72]", "blocks.1.mlp.fc2"):
        assert f'"{name}"' in text
    assert '"patch_embed' not in text
    assert '"head"' not in text


def test_an_answer_does_not_depend_on_the_others_of_a_batch(
    export: Path, classifier: Classifier
) -> None:
    session = OnnxSession((export / "model.int8.onnx").read_bytes(), "model.int8.onnx")
    pixels = digits(classifier, "val").first(33)
    alone = np.concatenate([session(one[None])[1] for one in pixels])
    for size in (1, 2, 3, 7, 32, 33):
        assert np.abs(session(pixels[:size])[1] - alone[:size]).max() <= 1e-6


def test_it_passes_the_check_before_serving(export: Path) -> None:
    for engine in ("onnx", "openvino") if is_installed("openvino") else ("onnx",):
        check_engine(load(export, engine=engine, precision="int8"), 4, "model")


def test_predict_of_the_export(export: Path, classifier: Classifier) -> None:
    pixels = digits(classifier, "val", 16).pixels.transpose(0, 2, 3, 1)
    found = load(export).predict(list(pixels))
    expected = classifier.predict(list(pixels))
    assert sum(a.label == b.label for a, b in zip(found, expected, strict=True)) >= 15


@pytest.mark.parametrize("changes", [{}, {"pool": "map"}, {"block": "between"}, {"mlp": "swiglu"}])
def test_equalising_changes_no_answer(changes: dict[str, Any]) -> None:
    classifier = classifier_of(channels=1, **changes)
    plant(classifier.model)
    graph, images = graph_of(classifier), digits(classifier, "train")
    pixels = torch.from_numpy(images.first(16))
    with torch.inference_mode():
        before = graph(pixels)[0].double()
    before_weight = graph.model.get_submodule("blocks.0.norm1").get_parameter("weight").clone()
    names = equalise(graph, images.batches())
    with torch.inference_mode():
        after = graph(pixels)[0].double()
    assert ("blocks.0.norm2" in names) == ("block" not in changes)
    changed = graph.model.get_submodule("blocks.0.norm1").get_parameter("weight")
    assert not torch.equal(before_weight, changed)
    scale = float(before.abs().max())
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("order", ["post", "branch"])
def test_a_norm_with_other_readers_is_left_alone(order: str) -> None:
    model = classifier_of(channels=1, block=order).model
    assert pairs_of(model) == []


def test_planted_outliers_are_equalised(classifier: Classifier) -> None:
    planted = copy.deepcopy(classifier)
    plant(planted.model)
    found = quantised(planted, Int8(digits(planted, "train"), max_drop=1.0))
    assert found.found.kept == ()
    assert found.found.comparison.p99_dp <= 0.05
    assert len(found.equalised) == 4


@pytest.mark.promise("M5")
def test_planted_outliers_are_caught_where_they_are_not(
    classifier: Classifier, tmp_path: Path
) -> None:
    planted = copy.deepcopy(classifier)
    plant(planted.model)
    asked = Int8(digits(planted, "train"), is_equalised=False)
    with pytest.raises(GateError, match=r"blocks\.\d\.(attn\.qkv|mlp\.fc1)") as error:
        exported(planted, tmp_path / "out", asked)
    assert (error.value.code, error.value.exit_code) == ("VIT-704", 7)
    assert os.listdir(tmp_path) == []


def test_one_layer_that_hurts_goes_back_to_float(classifier: Classifier) -> None:
    planted = copy.deepcopy(classifier)
    norm = planted.model.get_submodule("blocks.0.norm1")
    with torch.no_grad():
        for name in ("weight", "bias"):
            norm.get_parameter(name)[5] *= 300
        planted.model.get_submodule("blocks.0.attn.qkv").get_parameter("weight")[:, 5] /= 300
    asked = Int8(digits(planted, "train"), max_drop=1.0, is_equalised=False)
    found = quantised(planted, asked)
    assert [one.name for one in found.found.kept] == ["blocks.0.attn.qkv"]
    first = found.found.layers[0]
    assert (first.name, first.is_float) == ("blocks.0.attn.qkv", True)
    assert len(found.found.layers) == len(found.products) == 9
    assert not found.found.comparison.missed(found.limits)


@pytest.mark.promise("M5")
@pytest.mark.parametrize("kind", ["noise", "dark", "gray"])
def test_images_of_another_kind_are_no_calibration(classifier: Classifier, kind: str) -> None:
    real = digits(classifier, "train").pixels
    made = {
        "noise": np.random.default_rng(0).integers(0, 256, real.shape, dtype=np.uint8),
        "dark": real // 8,
        "gray": np.full_like(real, 127),
    }[kind]
    with pytest.raises(GateError, match="unlike") as error:
        quantised(classifier, Int8(CheckImages(made, None, kind, "")))
    assert (error.value.code, error.value.exit_code) == ("VIT-704", 7)


@pytest.mark.parametrize("n", [16, 50, 200])
def test_real_images_are_alike(classifier: Classifier, n: int) -> None:
    graph = graph_of(classifier)
    train, val = (digits(classifier, split, n) for split in ("train", "val"))
    require_alike(graph, train, val)
    real = shift(features(graph, train.batches()), features(graph, val.batches()))
    dark = CheckImages(train.pixels // 8, None, "dark", "")
    assert 0 < real < shift(features(graph, dark.batches()), features(graph, val.batches())) / 2


def test_a_speed_that_cannot_be_had_is_refused() -> None:
    found = Found(b"", Comparison(1, 0.0, 0.0, 0, 0), budget(0.5, None, 1))
    made = Quantisation(found, [], [], b"")
    images = CheckImages(np.zeros((16, 1, 2, 2), np.uint8), None, "digits", "train")
    table = {1: {"onnx float32": {1: 10.0}, "onnx int8": {1: 9.0}}}
    assert made.to_json(Int8(images), "onnx", table)["speedup"] == 0.9
    with pytest.raises(GateError, match=r"0\.90 times as fast") as error:
        made.to_json(Int8(images, min_speedup=1.1), "onnx", table)
    assert (error.value.code, error.value.exit_code) == ("VIT-705", 7)


def test_int8_needs_images_to_calibrate_with(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        export_model(classifier, tmp_path / "out", digits(classifier, "val"), precision="int8")
    assert error.value.code == "VIT-295"


def test_convolutions_are_quantised_too(tmp_path: Path) -> None:
    vit = classifier_of(channels=1)
    config = ResNetConfig(image_size=(16, 12), channels=1, num_classes=10)
    model = create_model(config).eval()
    classifier = Classifier(model, vit.preprocess, vit.classes)
    exported(classifier, tmp_path / "out")
    text = (tmp_path / "out/export.json").read_text()
    assert '"stages.0.blocks.1.conv1"' in text
    assert '"stem"' not in text


def test_the_budget() -> None:
    usual, wide = budget(0.5, 0.4, 1000), budget(1.0, 0.4, 1000)
    assert (usual.accuracy_drop, usual.changed_with_margin) == (0.5, 20)
    assert usual.nll_rise == pytest.approx(0.008)
    assert wide.nll_rise == pytest.approx(0.016)
    assert budget(0.0, 0.4, 1000).nll_rise == usual.nll_rise
    assert budget(0.5, None, 16).changed_with_margin == 1


def test_speedup_is_of_the_same_engine_on_one_thread() -> None:
    rates = {"onnx float32": {1: 10.0}, "onnx int8": {1: 25.0}, "torch float32": {1: 5.0}}
    assert speedup_of("onnx", {2: {}, 1: rates}) == 2.5


@pytest.mark.slow
def test_planted_faults_on_fashion_mnist(shared_data: Path) -> None:
    """Outliers times 100: within half a point of float32 equalised, refused otherwise. Noise as
    calibration: refused.
    """
    data = str(shared_data / "fashion_mnist")
    config = ViTConfig(
        image_size=(28, 28),
        patch_size=(4, 4),
        channels=1,
        width=48,
        depth=3,
        num_heads=3,
        mlp_dim=96,
        num_classes=10,
    )
    classifier = trained_on(open_data(data).train, config, 400)
    calibration = images_of(data, classifier, "train", 200)
    held_out = images_of(data, classifier, "test", 2000)
    plant(classifier.model)
    found = quantised(classifier, Int8(calibration), held_out).found
    assert found.kept == ()
    assert found.comparison.accuracy is not None
    assert found.comparison.accuracy[0] > 0.75
    with pytest.raises(GateError, match="one layer in int8") as error:
        quantised(classifier, Int8(calibration, is_equalised=False), held_out)
    assert error.value.code == "VIT-704"
    noise = np.random.default_rng(0).integers(0, 256, calibration.pixels.shape, dtype=np.uint8)
    with pytest.raises(GateError, match="unlike"):
        quantised(classifier, Int8(CheckImages(noise, None, "noise", "")), held_out)

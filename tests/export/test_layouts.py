"""Exports in the layouts of other tools: they answer as `predict` does, and are exports too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.export.exported import classifier_of, coloured_digits
from vitrail.classifier import Classifier, load
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import GateError
from vitrail.export.export_model import export_model
from vitrail.export.huggingface_layout import HUGGINGFACE, config_of, require_equal
from vitrail.export.triton_layout import TRITON, name_of
from vitrail.runtime.onnx_session import require_onnxruntime

pytest.importorskip("onnxscript")
onnxruntime = require_onnxruntime()
SIDE = 16


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """Ten classes, 16 px square, three channels."""
    made = classifier_of(image_size=(SIDE, SIDE))
    made.classes = [f"class {number}" for number in range(10)]
    return made


@pytest.fixture(scope="module")
def place(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both layouts."""
    folder = tmp_path_factory.mktemp("layouts")
    images = coloured_digits(classifier)
    export_model(classifier, folder / "hub", images, layout=HUGGINGFACE)
    export_model(classifier, folder / "my model.v2", images, layout=TRITON)
    return folder


@pytest.fixture
def image() -> Image.Image:
    """A photograph of nothing, 23 x 31 px."""
    pixels = np.random.default_rng(3).integers(0, 256, (31, 23, 3), np.uint8)
    return Image.fromarray(pixels)


def probabilities(classifier: Classifier, image: Image.Image) -> Any:
    """In the order of the classes."""
    found = {one.label: one.score for one in classifier.predict([image], top=10)[0].top}
    return np.array([found[name] for name in classifier.classes])


def softmax(logits: Any) -> Any:
    e = np.exp(logits - logits.max())
    return e / e.sum()


@pytest.mark.parametrize("name", ["hub", "my model.v2"])
def test_it_is_an_export_like_any_other(
    place: Path, classifier: Classifier, image: Image.Image, name: str
) -> None:
    found = load(place / name, engine="onnx")
    np.testing.assert_allclose(
        probabilities(found, image), probabilities(classifier, image), atol=1e-5
    )


def test_the_file_for_transformers_js_gives_logits_of_our_probabilities(
    place: Path, classifier: Classifier, image: Image.Image
) -> None:
    session = onnxruntime.InferenceSession((place / "hub/onnx/model.onnx").read_bytes())
    assert [one.name for one in session.get_inputs()] == ["pixel_values"]
    assert [one.name for one in session.get_outputs()] == ["logits"]
    assert isinstance(session.get_inputs()[0].shape[0], str)
    (logits,) = session.run(None, {"pixel_values": classifier.preprocess.floats(image)[None]})
    np.testing.assert_allclose(softmax(logits[0]), probabilities(classifier, image), atol=1e-5)


def test_config_and_processor_say_what_the_model_is(place: Path, classifier: Classifier) -> None:
    config = json.loads((place / "hub/config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("vit", ["ViTForImageClassification"])
    assert [config["id2label"][str(n)] for n in range(10)] == classifier.classes
    assert config["problem_type"] == "single_label_classification"
    processor = json.loads((place / "hub/preprocessor_config.json").read_text())
    assert processor["image_mean"] == list(classifier.preprocess.mean)
    assert processor["size"] == {"height": SIDE, "width": SIDE}
    card = (place / "hub/README.md").read_text()
    assert "transformers.js" in card


def test_scores_of_several_labels_are_said(classifier: Classifier) -> None:
    from dataclasses import replace

    several = Classifier(
        classifier.model,
        classifier.preprocess,
        classifier.classes,
        meta=replace(classifier.meta, scores="sigmoid"),
    )
    assert config_of(several)["problem_type"] == "multi_label_classification"


@pytest.mark.parity
def test_the_processor_of_transformers_makes_the_same_pixels(
    place: Path, classifier: Classifier, image: Image.Image
) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.AutoImageProcessor.from_pretrained(place / "hub", use_fast=False)
    config = transformers.AutoConfig.from_pretrained(place / "hub")
    pixels = processor(images=image, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(pixels[0], classifier.preprocess.floats(image), atol=1e-5)
    session = onnxruntime.InferenceSession((place / "hub/onnx/model.onnx").read_bytes())
    (logits,) = session.run(None, {"pixel_values": pixels})
    best = config.id2label[int(np.argmax(logits[0]))]
    assert best == classifier.predict([image])[0].label


def test_the_gate_holds_the_second_file_too(classifier: Classifier, place: Path) -> None:
    """With means of another model the file answers otherwise."""
    content = (place / "hub/onnx/model.onnx").read_bytes()
    made = classifier.preprocess.to_json() | {"mean": [0.9, 0.1, 0.9]}
    other = Classifier(classifier.model, Preprocess.from_json(made), classifier.classes)
    with pytest.raises(GateError, match=r"onnx/model\.onnx") as caught:
        require_equal(other, content, coloured_digits(classifier), 1)
    assert caught.value.code == "VIT-703"


def test_the_repository_of_triton(place: Path, classifier: Classifier) -> None:
    root = place / "my model.v2"
    folder = root / "my-model-v2"
    assert [one.name for one in root.iterdir() if one.is_dir()] == [folder.name]
    assert (folder / "1/model.onnx").read_bytes() == (root / "model.onnx").read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == classifier.classes
    config = (folder / "config.pbtxt").read_text()
    session = onnxruntime.InferenceSession((folder / "1/model.onnx").read_bytes())
    tensors = [*session.get_inputs(), *session.get_outputs()]
    told = re.findall(r'name: "(\w+)" data_type: TYPE_FP32 dims: \[ ([\d, ]+) \]', config)
    assert told == [(one.name, ", ".join(map(str, one.shape[1:]))) for one in tensors]
    assert re.findall(r"(\w+_file\w*|backend): \"([\w.]+)\"", config) == [
        ("backend", "onnxruntime"),
        ("label_filename", "labels.txt"),
    ]
    assert config.count("{") == config.count("}")


@pytest.mark.parametrize(
    ("given", "name"), [("a b", "a-b"), ("x/..y", "y"), ("...", "model"), ("vit_s16", "vit_s16")]
)
def test_a_name_that_triton_takes(given: str, name: str) -> None:
    assert name_of(Path("/tmp") / given) == name


def test_the_command_knows_both(place: Path) -> None:
    from vitrail.api.engine_export import LAYOUTS

    assert {"triton": TRITON, "huggingface-onnx": HUGGINGFACE} == LAYOUTS

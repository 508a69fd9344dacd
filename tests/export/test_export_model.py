"""`export_model`: what is written agrees with torch, or nothing is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.changed_values import changed
from tests.export.exported import classifier_of, coloured_digits
from vitrail.classifier import Classifier, load
from vitrail.data.images.preprocess import Preprocess
from vitrail.device import has_bfloat16
from vitrail.errors import GateError, ModelError, UsageError
from vitrail.export import candidates
from vitrail.export import engine_file as module
from vitrail.export.export_model import export_model
from vitrail.export.graph import Graph
from vitrail.model_folder.export_record import EXPORT, read_export, source_of
from vitrail.model_folder.model_record import parse_record
from vitrail.runtime import engines, openvino_session
from vitrail.runtime.onnx_session import OnnxSession


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return classifier_of()


@pytest.fixture(scope="module")
def export(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "out"
    export_model(classifier, out, coloured_digits(classifier))
    return out


def test_what_is_written(export: Path, classifier: Classifier) -> None:
    assert sorted(os.listdir(export)) == [
        "README.md",
        "classes.txt",
        "export.json",
        "model.json",
        "model.onnx",
        "preprocess.json",
    ]
    about = json.loads((export / "export.json").read_text())
    assert about["parity"]["images"] == 48
    assert about["parity"]["max_dp"] <= about["limits"]["max_dp"] == 1e-5
    assert about["parity"]["accuracy"][0] == about["parity"]["accuracy"][1]
    assert (export / "classes.txt").read_text().split() == classifier.classes
    assert Preprocess.from_json(json.loads((export / "preprocess.json").read_text())) == (
        classifier.preprocess
    )


def test_the_file_alone_is_enough(export: Path) -> None:
    """And says nothing of the machine that wrote it."""
    content = (export / "model.onnx").read_bytes()
    session = OnnxSession(content, "model.onnx")
    assert session.metadata["vitrail.record"] == (export / "model.json").read_text()
    assert str(Path(module.__file__).parents[2]).encode() not in content
    assert b"stack_trace" not in content


def test_it_is_read_back(export: Path, classifier: Classifier) -> None:
    found = read_export(export)
    assert found.record.classes == classifier.classes
    assert found.preprocess == classifier.preprocess
    assert found.about.file.format == "onnx"


def test_the_digest_of_the_weights_is_that_of_the_model_folder(
    export: Path, classifier: Classifier, tmp_path: Path
) -> None:
    """Otherwise no export would ever be current."""
    classifier.save(tmp_path / "model")
    path = tmp_path / "model/model.json"
    assert source_of(parse_record(path.read_bytes(), path)[0]) == read_export(export).about.source


def test_an_export_beside_other_weights_is_refused(
    export: Path, classifier: Classifier, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    classifier.save(run / "model")
    (run / "export").symlink_to(export)
    copy = run / "copied"
    copy.mkdir()
    for file in export.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    read_export(copy)
    classifier_of(layer_scale=0.1).save(run / "model", replace=True)
    with pytest.raises(ModelError, match="other weights") as error:
        read_export(copy)
    assert error.value.code == "VIT-472"


@pytest.mark.parametrize("name", ["model.onnx", "export.json", "model.json"])
def test_a_missing_or_changed_file_is_refused(export: Path, tmp_path: Path, name: str) -> None:
    for file in export.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError) as error:
        read_export(tmp_path).content()
    assert error.value.code in ("VIT-471", "VIT-434")
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="missing") as error:
        read_export(tmp_path).content()
    assert error.value.code == "VIT-471"


def test_every_changed_value_of_the_record_is_refused(export: Path, tmp_path: Path) -> None:
    for file in export.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    document = json.loads((tmp_path / EXPORT).read_text())
    documents = list(changed(document))
    assert len(documents) > 60
    for one in documents:
        (tmp_path / EXPORT).write_text(json.dumps(one))
        with pytest.raises(ModelError) as error:
            read_export(tmp_path)
        assert error.value.code in ("VIT-435", "VIT-471", "VIT-472")
    (tmp_path / EXPORT).write_text(json.dumps(document | {"speed": {}, "digest": ""}))
    assert not read_export(tmp_path).about.speed  # changed on purpose


@pytest.mark.parametrize(("has_digest", "code"), [(True, "VIT-434"), (False, "VIT-472")])
def test_a_changed_temperature_is_refused(
    export: Path, tmp_path: Path, has_digest: bool, code: str
) -> None:
    for file in export.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "model.json").read_text()
    changed = re.sub('"temperature": ?1.5', '"temperature": 2.5', text)
    assert changed != text
    if not has_digest:
        changed = re.sub(',\\s*"digest": "[0-9a-f]{64}"', "", changed)
    (tmp_path / "model.json").write_text(changed)
    with pytest.raises(ModelError) as error:
        read_export(tmp_path)
    assert error.value.code == code


def test_the_lines_of_the_card_answer_as_predict(
    export: Path, classifier: Classifier, tmp_path: Path
) -> None:
    """In an interpreter that imports nothing of vitrail and no torch."""
    code = (export / "README.md").read_text().split("is set):\n\n```python\n")[1]
    code = code.split("```")[0] + "\nimport sys\nassert not {'torch', 'vitrail'} & set(sys.modules)"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")  # decoders differ; the test is not that
    code = code.replace('"a.jpg"', repr(str(tmp_path / "a.png")))
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=export, capture_output=True, text=True, check=True
    )
    expected = classifier.predict(tmp_path / "a.png")[0].top
    found = [line.split() for line in answer.stdout.splitlines()]
    assert [label for label, _ in found] == [one.label for one in expected]
    assert [float(p) for _, p in found] == pytest.approx([s.score for s in expected], abs=1e-5)


def test_a_pt2_is_written_and_never_opened(classifier: Classifier, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export_model(classifier, out, coloured_digits(classifier), to="torch-export")
    assert done.comparison.max_dp <= 1e-6
    assert (out / "model.pt2").stat().st_size == done.record.file.size
    with pytest.raises(ModelError) as error:
        read_export(out)
    assert error.value.code == "VIT-473"


def wrong_mean(graph: Graph) -> None:
    graph.mean += 0.1


def wrong_std(graph: Graph) -> None:
    graph.std *= 1.1


def swapped_classes(graph: Graph) -> None:
    head = graph.model.get_submodule("head")
    for value in head.parameters():
        value.data = value.data[torch.tensor([1, 0, *range(2, len(value))])]


def transposed_channels(graph: Graph) -> None:
    weight = graph.model.get_submodule("patch_embed.proj").get_parameter("weight")
    weight.data = weight.data.flip(1)


def perturbed_layer(graph: Graph) -> None:
    graph.model.get_submodule("blocks.1.mlp.fc1").get_parameter("weight").data *= 1.01


def wrong_temperature(graph: Graph) -> None:
    graph.temperature *= 1.1


FAULTS = [
    wrong_mean,
    wrong_std,
    swapped_classes,
    transposed_channels,
    perturbed_layer,
    wrong_temperature,
]


@pytest.mark.promise("M5")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_and_nothing_is_left(
    fault: Callable[[Graph], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The torch-export target, whose export is quick; the gate is one for all."""
    classifier, made = classifier_of(), module.graph_of

    def faulty(given: Classifier) -> Graph:
        graph = made(classifier_of())  # another model than the one that judges
        fault(graph)
        return graph

    monkeypatch.setattr(module, "graph_of", faulty)
    with pytest.raises(GateError, match="limit") as error:
        export_model(classifier, tmp_path / "out", coloured_digits(classifier), to="torch-export")
    assert error.value.code == "VIT-703"
    assert error.value.exit_code == 7
    assert os.listdir(tmp_path) == []


@pytest.mark.promise("M5")
@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16")
def test_bfloat16_taken_for_float32_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenVINO does of its own accord where it is told nothing."""
    pytest.importorskip("openvino_telemetry")  # comes with openvino, whose import would send
    classifier = classifier_of()
    monkeypatch.setitem(openvino_session.HINTS, "float32", "bf16")
    with pytest.raises(GateError, match="limit") as error:
        export_model(classifier, tmp_path / "out", coloured_digits(classifier), to="openvino")
    assert error.value.code == "VIT-703"
    assert os.listdir(tmp_path) == []


def test_another_engine_that_misses_is_recorded_and_never_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for passed: the export stands."""
    classifier = classifier_of()
    made = engines.open_session

    def off(engine: str, *given: Any, **named: Any) -> Any:
        session = made("onnx", *given, **named)
        return (
            session if engine == "onnx" else lambda pixels: [one * 1.01 for one in session(pixels)]
        )

    monkeypatch.setattr(candidates, "open_session", off)
    monkeypatch.setattr(module, "is_installed", lambda engine: True)
    out = tmp_path / "out"
    export_model(classifier, out, coloured_digits(classifier))
    about = read_export(out).about
    assert [(one.engine, one.passed) for one in about.checked] == [
        ("onnx", True),
        ("openvino", False),
    ]
    assert set(about.speed[1]) == {"torch float32", "onnx float32"}
    assert load(out).runtime.info.engine == "onnx"
    with pytest.raises(GateError, match="VIT-703"):
        load(out, engine="openvino")


@pytest.mark.parametrize(
    ("to", "precision", "code", "hint"),
    [
        ("onnx", "bfloat16", "VIT-294", "--to openvino or torch"),
        ("torch", "float32", "VIT-294", "--to onnx"),
        ("openvino", "bf16", "VIT-242", ""),
    ],
)
def test_a_precision_that_a_target_has_not(
    to: Any, precision: Any, code: str, hint: str, classifier: Classifier, tmp_path: Path
) -> None:
    images = coloured_digits(classifier)
    with pytest.raises(UsageError, match=code) as error:
        export_model(classifier, tmp_path / "out", images, to=to, precision=precision)
    assert hint in error.value.hint
    assert os.listdir(tmp_path) == []


def test_without_a_fault_the_same_passes(tmp_path: Path) -> None:
    classifier = classifier_of()
    export_model(classifier, tmp_path / "out", coloured_digits(classifier), to="torch-export")


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    encoder, other = classifier_of(num_classes=0), classifier_of()
    with pytest.raises(ModelError) as error:
        export_model(encoder, tmp_path / "out", coloured_digits(other))
    assert error.value.code == "VIT-443"
    assert os.listdir(tmp_path) == []

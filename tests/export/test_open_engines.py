"""A model with exports: which engine answers, in what precision, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.export.exported import classifier_of, coloured_digits
from vitrail.classifier import load
from vitrail.cli.main import main
from vitrail.device import has_bfloat16
from vitrail.errors import VitrailError
from vitrail.export.export_model import export_model
from vitrail.model_folder import choose_engine
from vitrail.model_folder.export_record import EXPORT, read_export
from vitrail.runtime.engines import Asked, is_installed

pytestmark = pytest.mark.skipif(
    not (is_installed("openvino") and is_installed("onnx")), reason="engines are not installed"
)
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with an export in it."""
    folder = tmp_path_factory.mktemp("engines") / "m"
    classifier = classifier_of()
    classifier.save(folder)
    export_model(classifier, folder / "export", coloured_digits(classifier), to="openvino")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def copy_of(model: Path, to: Path, **speed: float) -> Path:
    """The model with speeds of one image on one thread."""
    shutil.copytree(model, to)
    path = to / "export" / EXPORT
    about: dict[str, Any] = json.loads(path.read_text())
    del about["digest"]  # changed on purpose
    about["speed"] = {"1": {f"{name} float32": {"1": rate} for name, rate in speed.items()}}
    path.write_text(json.dumps(about))
    return to


def test_every_engine_was_checked_and_measured(model: Path) -> None:
    about = read_export(model / "export").about
    assert [(one.engine, one.precision, one.passed) for one in about.checked] == [
        ("openvino", "float32", True),
        ("onnx", "float32", True),
    ]
    assert about.file.name == "model.onnx"
    assert set(about.speed[1]) == {"torch float32", "openvino float32", "onnx float32"}
    assert set(about.speed[1]["torch float32"]) == {1, 2, 4, 8, 16, 32}
    assert about.checked[0].limits["max_dp"] == 1e-5


@pytest.mark.parametrize("fastest", ["torch", "onnx", "openvino"])
def test_auto_takes_the_fastest_and_says_so(
    model: Path, tmp_path: Path, fastest: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speed = {"torch": 1.0, "onnx": 1.0, "openvino": 1.0} | {fastest: 2.0}
    copy = copy_of(model, tmp_path / "m", **speed)
    assert load(copy, engine="auto").runtime.info.engine == fastest
    assert main(["--json", "predict", str(copy), str(image), "--engine", "auto"]) == 0
    said = capsys.readouterr()
    assert f"computed by {fastest} float32" in said.err
    scores = [one["score"] for one in json.loads(said.out)[0]["top"]]
    expected = [one.score for one in classifier_of().predict(image)[0].top]
    assert scores == pytest.approx(expected, abs=1e-5)


def test_python_gets_torch_unless_it_says_otherwise(model: Path) -> None:
    """A classifier that is loaded to be explained or saved stays one beside a fast export."""
    found = load(model)
    assert found.runtime.info.engine == "torch"
    assert found.model is not None
    assert load(model / "export").runtime.info.engine in ("onnx", "openvino")


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_the_engine_that_was_named(model: Path, engine: str) -> None:
    info = load(model, engine=engine, threads=1).runtime.info
    assert (info.engine, info.precision, info.threads) == (engine, "float32", 1)


def test_another_processor_is_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("another processor" in note for note in load(model, engine="auto").meta.notes)
    monkeypatch.setattr(choose_engine, "processor", lambda: "one of tomorrow")
    copy = copy_of(model, tmp_path / "m", torch=1.0, onnx=2.0, openvino=1.0)
    assert any("another processor" in note for note in load(copy, engine="auto").meta.notes)


def test_an_export_of_other_weights_is_not_used_and_said(model: Path, tmp_path: Path) -> None:
    copy = copy_of(model, tmp_path / "m", torch=1.0, onnx=9.0)
    classifier_of(layer_scale=0.1).save(tmp_path / "other")
    for name in ("model.json", "model.safetensors"):
        shutil.copy(tmp_path / "other" / name, copy / name)
    found = load(copy, engine="auto")
    assert found.runtime.info.engine == "torch"
    assert any("not used" in note and "other weights" in note for note in found.meta.notes)
    with pytest.raises(VitrailError, match="VIT-472"):
        load(copy, engine="onnx")


@pytest.mark.parametrize(
    ("where", "options", "code"),
    [
        ("export", {"engine": "torch"}, "VIT-294"),
        ("export", {"precision": "int8"}, "VIT-294"),
        ("export", {"device": "cuda"}, "VIT-294"),
        (".", {"device": "cuda", "engine": "openvino"}, "VIT-294"),
        (".", {"engine": "torch", "precision": "bfloat16"}, "VIT-294"),
        (".", {"precision": "bfloat16"}, "VIT-294"),
        (".", {"engine": "tensorrt"}, "VIT-294"),
        (".", {"precision": "float16"}, "VIT-242"),
    ],
)
def test_what_cannot_be_had(model: Path, where: str, options: Any, code: str) -> None:
    with pytest.raises(VitrailError, match=code):
        load(model / where, **options)


def test_a_model_without_export_has_torch_alone(tmp_path: Path) -> None:
    classifier_of().save(tmp_path / "m")
    assert load(tmp_path / "m").runtime.info.engine == "torch"
    assert load(tmp_path / "m", engine="auto").meta.notes == ()
    with pytest.raises(VitrailError, match="VIT-294") as error:
        load(tmp_path / "m", engine="onnx")
    assert "--to onnx" in error.value.hint


def test_a_run_that_still_trains_has_torch_alone(model: Path, tmp_path: Path) -> None:
    """Without model.json nothing tells whether its weights are those of the export."""
    copy = copy_of(model, tmp_path / "m", torch=1.0, onnx=9.0)
    assert choose_engine.choose(copy, Asked("auto"), "cpu").way.engine == "onnx"
    (copy / "model.json").unlink()
    assert choose_engine.choose(copy, Asked("auto"), "cpu").way.engine == "torch"


@pytest.mark.parametrize("broken", ["{", '{"schema": 1}', ""])
def test_a_damaged_export_beside_a_model_is_said(model: Path, tmp_path: Path, broken: str) -> None:
    copy = copy_of(model, tmp_path / "m", torch=1.0, onnx=9.0)
    (copy / "export" / EXPORT).write_text(broken)
    found = load(copy, engine="auto")
    assert found.runtime.info.engine == "torch"
    assert any("not used" in note for note in found.meta.notes)


@needs_bfloat16
@pytest.mark.parametrize("target", ["openvino", "torch"])
def test_bfloat16_is_computed_by_who_asked_for_it(target: Any, tmp_path: Path) -> None:
    classifier = classifier_of(qk_norm=True)
    classifier.save(tmp_path / "m")
    out = tmp_path / "m/export/bfloat16"
    done = export_model(
        classifier, out, coloured_digits(classifier), to=target, precision="bfloat16"
    )
    assert done.record.checked[0].limits["max_dp"] == 0.1
    assert done.comparison.max_dp > 1e-5
    assert load(tmp_path / "m", engine="auto").runtime.info.precision == "float32"
    for path, precision in ((out, None), (tmp_path / "m", "bfloat16")):
        found = load(path, engine="auto", precision=precision)
        info = found.runtime.info
        assert (info.engine, info.precision) == (target, "bfloat16")
        assert not any("float32" in note.replace("bfloat16", "") for note in found.meta.notes)
        images = coloured_digits(classifier).first(4)
        given = images / 255 - 0.5
        apart = np.abs(found.probabilities(given) - classifier.probabilities(given)).max()
        assert 1e-6 < apart < 0.1


def test_eval_says_which_engine_measured(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {}
    for engine in ("torch", "openvino"):
        words = ["--engine", engine, "--out", str(tmp_path / engine)]
        assert main(["--json", "eval", str(model), "builtin:digits", *words]) == 0
        measured[engine] = json.loads(capsys.readouterr().out)
    assert "engine" not in measured["torch"]
    assert measured["openvino"]["engine"]["name"] == "openvino"
    assert measured["openvino"]["nll"] == pytest.approx(measured["torch"]["nll"], abs=1e-5)

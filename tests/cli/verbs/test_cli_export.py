"""`vitrail export`: what it refuses before it computes, and one export from a model folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.export.exported import classifier_of
from tests.export.web.sites import STUBS
from vitrail.cli.main import main
from vitrail.cli.verbs.export import int8_lines
from vitrail.export.web import ort_web
from vitrail.model_folder.export_record import read_export


def document(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    classifier = classifier_of(channels=1)
    classifier.save(tmp_path / "model")
    return tmp_path / "model"


def test_layers_that_went_back_to_float_are_named() -> None:
    """Beside them what they cost, and whether int8 is worth it."""
    about: dict[str, Any] = {"int8": ["a", "b"], "float": ["c", "d"], "speedup": 1.5}
    about["layers"] = [{"name": "c", "p99_dp": 0.125}, {"name": "a", "p99_dp": 0.001}]
    first, *rest = int8_lines(about)
    assert first == "int8: 2 layers; back in float, because they cost too much: c, d"
    assert [line.split() for line in rest[1:3]] == [["c", "0.125"], ["a", "0.001"]]
    assert rest[-1].startswith("1.50 times")
    (alone, speed, advice) = int8_lines({"int8": ["a"], "float": [], "speedup": 1.0})
    assert (alone, speed.split()[0], advice[:7]) == ("int8: 1 layer", "1.00", "VIT-705")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--list"]) == 0
    text = capsys.readouterr().out
    assert "torch-export" in text
    assert "--ort-web" in text


@pytest.mark.parametrize(
    ("words", "code", "exit_code", "hint"),
    [
        (["--to", "onxx"], "VIT-294", 2, "--list"),
        (["--opset", "9"], "VIT-202", 2, "20"),
        ([], "VIT-295", 2, "--images"),
        (["--split", "test", "--images", "builtin:digits"], "VIT-366", 3, "--split val"),
        (["--download"], "VIT-298", 2, "--to web"),
        (["--ort-web", "ort.tgz", "--to", "torch-export"], "VIT-298", 2, "--to web"),
        (["--to", "web", "--ort-web", "ort.tgz"], "VIT-528", 5, "npm pack"),
        (["--to", "web"], "VIT-528", 5, "--download"),
        (["--to", "web", "--precision", "bfloat16"], "VIT-294", 2, "openvino"),
        (["--precision", "int8", "--split", "train"], "VIT-366", 3, "--split val"),
        (["--max-drop", "1"], "VIT-202", 2, "--precision int8"),
        (["--precision", "int8", "--max-drop", "nan"], "VIT-202", 2, ""),
        (["--precision", "int8", "--min-speedup", "-1"], "VIT-202", 2, ""),
        (["--precision", "int8"], "VIT-295", 2, "--images"),
        (["--to", "torch", "--precision", "int8"], "VIT-294", 2, "onnx or openvino"),
        (["--to", "openvino", "--max-drop", "2"], "VIT-202", 2, "--precision int8"),
        (["--to", "triton", "--precision", "int8"], "VIT-294", 2, "--to onnx"),
    ],
)
def test_what_is_refused(
    model: Path,
    words: list[str],
    code: str,
    exit_code: int,
    hint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(model.parent / "cache"))
    out = model.parent / "out"
    assert main(["--json", "export", str(model), str(out), *words]) == exit_code
    found = document(capsys.readouterr().out)
    assert found["code"] == code
    assert hint in found["hint"]
    assert not out.exists()


def test_a_folder_that_exists_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "export", str(model), str(model)]) == 4
    assert document(capsys.readouterr().out)["code"] == "VIT-440"


def test_an_export(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.parent / "out"
    words = ["export", str(model), str(out), "--images", "builtin:digits", "--check", "40"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "0 answers differ" in text
    assert "missed" not in text
    assert read_export(out).about.file.name == "model.onnx"
    assert [name for name in os.listdir(model.parent) if name.startswith(".")] == []


@pytest.mark.slow
def test_a_page(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How to try it is said; the name of the folder is quoted."""
    monkeypatch.setattr(ort_web, "ort_web_files", lambda given, **options: STUBS)
    out = model.parent / "my page"
    words = ["export", str(model), str(out), "--to", "web", "--images", "builtin:digits"]
    assert main([*words, "--check", "20"]) == 0
    text = capsys.readouterr().out
    assert f"python -m http.server --directory '{out}'" in text
    assert "MB for a visitor" in text
    assert (out / "index.html").is_file()
    assert document((out / "site.json").read_text())["name"] == "my page"


def test_images_without_splits_are_all_used(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--to", "torch-export", "--images", "builtin:digits", "--check", "20"]
    assert main(["--json", "export", str(model), str(model.parent / "out"), *words]) == 0
    found = document(capsys.readouterr().out)
    assert found["images"] == {"data": "digits", "split": "all", "n": 20}
    assert found["parity"]["images"] == 20


@pytest.mark.slow
def test_int8_of_data_without_splits(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calibrated with images that it is not checked with; the labels of a model with random
    weights say nothing, so the budget is wide."""
    out = model.parent / "out"
    words = ["--precision", "int8", "--images", "builtin:digits", "--check", "60"]
    words += ["--calibrate", "80", "--max-drop", "20"]
    assert main(["export", str(model), str(out), *words]) == 0
    text = capsys.readouterr().out
    assert "times as fast as float32" in text
    about = read_export(out).about
    assert (about.file.name, about.file.precision) == ("model.int8.onnx", "int8")
    assert about.quantisation["calibration"] == {
        "data": "digits",
        "split": "not checked with",
        "n": 80,
    }

"""Which engine is taken: the fastest of those that agreed with torch and are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrail.errors import VitrailError, install_command
from vitrail.runtime import engines
from vitrail.runtime.engines import PACKAGES, Asked, Way, pick
from vitrail.runtime.onnx_session import LEAST as ONNX_LEAST
from vitrail.runtime.openvino_session import LEAST as OPENVINO_LEAST

ROOT = Path(__file__).parents[2]
TORCH = Way("torch", rates={1: {1: 10.0, 8: 40.0}, 4: {1: 30.0, 8: 90.0}})
ONNX = Way("onnx", rates={1: {1: 20.0, 8: 18.0}, 4: {1: 40.0, 8: 50.0}})
OPENVINO = Way("openvino", rates={1: {1: 15.0, 8: 30.0}, 4: {1: 20.0, 8: 60.0}})
ROUGH = Way("openvino", "bfloat16", rates={1: {1: 99.0}})
FAILED = Way("openvino", "int8", passed=False, rates={1: {1: 999.0}})
WAYS = [TORCH, ONNX, OPENVINO, ROUGH, FAILED]


@pytest.fixture(autouse=True)
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "is_installed", lambda engine: True)


@pytest.mark.parametrize(
    ("asked", "threads", "expected"),
    [
        (Asked(), 1, ONNX),
        (Asked(batch=8), 1, TORCH),
        (Asked(batch=7), 1, ONNX),  # 8 was measured, and 7 are no 8
        (Asked(), 3, ONNX),  # nearer to 4 threads
        (Asked(batch=64), 4, TORCH),
        (Asked("openvino"), 1, OPENVINO),
        (Asked("openvino", "bfloat16"), 1, ROUGH),
        (Asked(precision="bfloat16"), 1, ROUGH),
        (Asked(precision="auto"), 1, ROUGH),  # the failed one is faster
    ],
)
def test_the_fastest_that_was_asked_for(asked: Asked, threads: int, expected: Way) -> None:
    assert pick(WAYS, asked, threads, "float32", "m") is expected


def test_what_is_not_installed_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "is_installed", lambda engine: engine == "openvino")
    assert pick(WAYS, Asked(), 1, "float32", "m") is OPENVINO
    with pytest.raises(VitrailError, match="VIT-520") as error:
        pick([ONNX], Asked(), 1, "float32", "m")
    assert error.value.hint == install_command("onnx")
    with pytest.raises(VitrailError, match="VIT-520") as error:
        pick([TORCH], Asked(), 1, "float32", "m")
    assert "pip install torch" in error.value.hint


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (Asked("openvino", "int8"), "VIT-703", "found so when it was exported"),
        (Asked("onnx", "bfloat16"), "VIT-294", "ONNX Runtime has no bfloat16"),
        (Asked("torch", "bfloat16"), "VIT-294", "--to torch --precision bfloat16"),
        (Asked("onnx", "int8"), "VIT-294", "--to onnx --precision int8"),
    ],
)
def test_what_was_not_checked_is_refused(asked: Asked, code: str, said: str) -> None:
    with pytest.raises(VitrailError) as error:
        pick(WAYS, asked, 1, "float32", "m")
    assert error.value.code == code
    assert said in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (Asked("onxx"), "VIT-294", "onnx"),
        (Asked(""), "VIT-294", "engine ''"),
        (Asked(precision="bf16"), "VIT-242", "bfloat16"),
    ],
)
def test_unknown_names(asked: Asked, code: str, said: str) -> None:
    with pytest.raises(VitrailError, match=code) as error:
        asked.check()
    assert said in str(error.value)


def test_the_best_batch_is_the_one_measured_fastest() -> None:
    assert (ONNX.best_batch(1), ONNX.best_batch(4), TORCH.best_batch(1)) == (1, 8, 8)
    assert TORCH.best_batch(1, most=7) == 1
    assert Way("onnx").best_batch(1) == 1
    assert Way("onnx").rate(8, 1) == 0


def test_the_extras_ask_for_what_the_engines_refuse_below() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for engine, least in (("onnx", ONNX_LEAST), ("openvino", OPENVINO_LEAST)):
        assert f'\n{engine} = ["{PACKAGES[engine]}>={least[0]}.{least[1]}"]\n' in text

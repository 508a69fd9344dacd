"""OpenVINO computes what ONNX Runtime computes, in the precision that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.export.exported import classifier_of
from vitrail.device import has_bfloat16
from vitrail.errors import EnvironmentFault, ModelError, UsageError
from vitrail.export.engine_file import graph_of
from vitrail.export.onnx_export import onnx_bytes
from vitrail.runtime import openvino_session
from vitrail.runtime.onnx_session import OnnxSession, require_onnxruntime
from vitrail.runtime.openvino_session import CONVERTER, OpenVinoSession, require_openvino
from vitrail.runtime.session import Floats

pytest.importorskip("onnxscript")
if not hasattr(sys.modules.get("openvino"), "Core"):
    try:
        require_openvino()
    except EnvironmentFault:
        pytest.skip("openvino is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def content() -> bytes:
    return onnx_bytes(graph_of(classifier_of()), "{}")


def pixels_of(count: int) -> Floats:
    generator = np.random.default_rng(count)
    return generator.integers(0, 256, (count, 3, 16, 12)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 32])
def test_it_agrees_with_torch_at_every_batch(content: bytes, count: int) -> None:
    session = OpenVinoSession(content, "model.onnx")
    with torch.inference_mode():
        expected = graph_of(classifier_of())(torch.from_numpy(pixels_of(count)))
    for got, one in zip(session(pixels_of(count)), expected, strict=True):
        np.testing.assert_allclose(got, one.numpy(), rtol=0, atol=1e-5)
    assert session.input_size == (3, 16, 12)


def test_an_answer_stays_when_the_next_is_computed(content: bytes) -> None:
    session = OpenVinoSession(content, "model.onnx")
    first = session(pixels_of(2))[0]
    kept = first.copy()
    session(255 - pixels_of(2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_is_met_when_the_session_is_gone(content: bytes, tmp_path: Path) -> None:
    """OpenVINO puts a stack for signals in place, and takes its memory away with the Core, in
    whatever thread that goes.
    """
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    script = """
import os, signal, sys
from pathlib import Path
from threading import Thread
from vitrail.runtime.openvino_session import OpenVinoSession
signal.signal(signal.SIGINT, lambda *_: print("met"))
held = [OpenVinoSession(Path(sys.argv[1]).read_bytes(), "model.onnx")]
thread = Thread(target=held.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, file], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "met\n"), done.stderr


def test_two_threads_at_once_get_the_same_answers(content: bytes) -> None:
    session = OpenVinoSession(content, "model.onnx", streams=2)
    given = [pixels_of(count) for count in (1, 2, 3, 5, 8)] * 8
    alone = [session(one)[0] for one in given]
    with ThreadPoolExecutor(4) as pool:
        for got, expected in zip(pool.map(lambda one: session(one)[0], given), alone, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16")
def test_bfloat16_is_computed_only_when_it_is_asked_for(content: bytes) -> None:
    exact = OnnxSession(content, "model.onnx")(pixels_of(8))[0]
    plain = OpenVinoSession(content, "model.onnx")(pixels_of(8))[0]
    rough = OpenVinoSession(content, "model.onnx", precision="bfloat16")(pixels_of(8))[0]
    assert np.abs(plain - exact).max() < 1e-5 < 1e-3 < np.abs(rough - exact).max()


def test_bfloat16_is_refused_where_openvino_would_compute_float32() -> None:
    core = SimpleNamespace(get_property=lambda device, name: ["FP32", "INT8"])
    with pytest.raises(UsageError) as error:
        openvino_session.require_bfloat16(core)
    assert error.value.code == "VIT-242"


def test_threads_and_precision_are_said() -> None:
    said = openvino_session.properties_of("float32", 3, 2)
    assert said["INFERENCE_PRECISION_HINT"] == "f32"
    assert (said["INFERENCE_NUM_THREADS"], said["NUM_STREAMS"]) == (6, 2)
    assert said["ENABLE_CPU_PINNING"] is False


@pytest.mark.parametrize("change", ["half", "external", "text"])
def test_a_file_that_vitrail_did_not_write_is_refused(content: bytes, change: str) -> None:
    changed = {
        "half": content[: len(content) // 2],
        "external": content + b"\x0a\x08location",
        "text": b"<net name='model'/>",
    }[change]
    with pytest.raises(ModelError) as error:
        OpenVinoSession(changed, "model.onnx")
    assert error.value.code == "VIT-471"
    assert "Exception from" not in error.value.message


@pytest.mark.parametrize(
    ("name", "require"), [("openvino", require_openvino), ("onnxruntime", require_onnxruntime)]
)
def test_a_library_that_is_missing_broken_or_too_old(
    name: str, require: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(require)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentFault, match="VIT-520"):
        require()
    old = SimpleNamespace(__version__="1.2.3", Core=object)
    monkeypatch.setitem(sys.modules, name, old)
    with pytest.raises(EnvironmentFault, match="VIT-525") as error:
        require()
    assert "1.2.3" in str(error.value)


def test_the_converter_can_be_imported_by_who_asks_for_it() -> None:
    require_openvino()
    assert sys.modules.get(CONVERTER, "absent") is not None

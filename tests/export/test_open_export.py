"""An export classifies as the model that it came from, in a process that never loads torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.exported import classifier_of, coloured_digits
from vitrail.classifier import load
from vitrail.errors import UsageError
from vitrail.export.engine_file import Target
from vitrail.export.export_model import export_model
from vitrail.runtime.engines import is_installed

PROGRAM = """
import sys
from vitrail.cli.main import main
code = main(["--json", "predict", *sys.argv[1:]])
assert "torch" not in sys.modules, "torch was loaded"
sys.exit(code)
"""


@pytest.mark.parametrize("engine", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_predict_of_an_export_loads_no_torch(tmp_path: Path, engine: Target) -> None:
    if not is_installed(engine):
        pytest.skip(f"{engine} is not installed")
    classifier = classifier_of()
    out, image = tmp_path / "out", tmp_path / "a.png"
    export_model(classifier, out, coloured_digits(classifier), to=engine)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(out), str(image), "--engine", engine],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[0]["top"]
    expected = classifier.predict(image)[0].top
    assert [one["label"] for one in found] == [one.label for one in expected]
    assert [one["score"] for one in found] == pytest.approx([s.score for s in expected], abs=1e-5)
    info = load(out, engine=engine, threads=1).runtime.info
    assert (info.engine, info.precision, info.threads) == (engine, "float32", 1)
    assert info.input_size == (3, 16, 12)
    with pytest.raises(UsageError, match="VIT-294"):
        load(out, device="cuda")
    with pytest.raises(UsageError, match="VIT-202"):
        load(out, given={"num_heads": 2})
    [answer] = load(out).predict(image)
    assert answer.top[0].label == expected[0].label

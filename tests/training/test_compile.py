"""Runs with torch.compile: close to plain ones, resumed bit for bit, a clear end without compiler.

Slow: the kernels are built by a C++ compiler, tens of seconds the first time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.running import TINY, StopAt, records, train, weights
from vitrail.errors import EnvironmentFault
from vitrail.training import loop
from vitrail.training.compiled import compile_faults

STEPS = 14  # a record is written after 12
# Without dropout, whose masks the compiled network draws by another generator.
PLAIN: dict[str, Any] = {"steps": STEPS, "model.dropout": 0.0, "model.depth": 1}
# Kernels sum in another order: 1e-7 an operation in float32; means over a batch differed by 1e-10
# after 14 steps. A wrong layer moves the loss by more than 1e-3.
TOLERANCE = 1e-6

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its own parts
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")


def losses(run_dir: Path) -> list[float]:
    found = records(run_dir)
    return [row[key] for row in found for key in ("train/loss", "val/loss") if key in row]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@needs_compiler
def test_compiled_steps_are_close_to_plain_ones_and_resume(tmp_path: Path) -> None:
    settings = {key.replace(".", "__"): value for key, value in PLAIN.items()}
    plain = train(tmp_path, "plain", **settings).run_dir
    whole = train(tmp_path, "whole", compile=True, **settings).run_dir
    assert len(losses(whole)) == len(losses(plain)) >= 2
    assert losses(whole) == pytest.approx(losses(plain), rel=TOLERANCE)
    cut = train(
        tmp_path, "cut", compile=True, eval_every_epochs=0.04, reporter=StopAt(12), **settings
    ).run_dir
    assert len(records(cut)) < len(records(train_on(cut)))
    other = train(tmp_path, "other", compile=True, eval_every_epochs=0.04, **settings).run_dir
    assert weights(cut) == weights(other)
    assert records(cut) == records(other)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@needs_compiler
def test_a_compiled_residual_network_is_close_to_the_plain_one(tmp_path: Path) -> None:
    """Running values move once a step there too: validation, which takes them, agrees."""
    settings: dict[str, Any] = {
        "steps": STEPS,
        "model": "resnet_ti",
        "model.stem_width": 5,
        "model.widths": "6,8",
    }
    tiny = {key: value for key, value in TINY.items() if not key.startswith("model.")}
    runs = [
        loop.train(
            [("test", tiny | settings | {"compile": is_compiled})],
            runs_dir=tmp_path,
            name=f"compiled-{is_compiled}",
            with_report=False,
        ).run_dir
        for is_compiled in (False, True)
    ]
    assert len(losses(runs[0])) >= 2
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-4)


def train_on(run_dir: Path) -> Path:
    return loop.resume(run_dir).run_dir


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_a_compiler_the_run_ends_with_its_code(tmp_path: Path) -> None:
    """A process of its own: what was compiled once stays in this one."""
    settings = [f"--{key}={value}" for key, value in (TINY | PLAIN).items() if key != "data.path"]
    environment = os.environ | {
        "CXX": "/nowhere/c++",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "vitrail",
            "train",
            "builtin:digits",
            "--compile",
            "--out",
            str(tmp_path),
            "--name",
            "run",
            *settings,
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "VIT-523" in done.stderr
    assert "g++" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), compile_faults():
        raise ZeroDivisionError
    with pytest.raises(EnvironmentFault) as caught, compile_faults():
        raise _of_torch()
    assert caught.value.code == "VIT-523"
    assert "no g++ here" in str(caught.value)


def _of_torch() -> Exception:
    class Broken(RuntimeError):
        __module__ = "torch._inductor.exc"

    return Broken("\nno g++ here\nand more")

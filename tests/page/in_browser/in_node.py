"""The page's own code, run by node on many cases at once."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import ROOT

SITE = ROOT / "vitrail/page/in_browser"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def run(cases: Sequence[dict[str, Any]]) -> list[Any]:
    """The result of each case, in order; {"error": reason} for one that is refused."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(Path(__file__).parent / "pixels.mjs"), str(SITE)],
        input="".join(json.dumps(one) + "\n" for one in cases),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(cases)
    return results


def picture(pixels: NDArray[np.uint8], channels: int | None = None) -> dict[str, Any]:
    """Pixels (H, W, C) for a case; channels: those that are used, of C."""
    height, width, step = pixels.shape
    return {
        "data": text_of(pixels.tobytes()),
        "height": height,
        "width": width,
        "channels": channels or step,
        "step": step,
    }


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def array(text: str, shape: tuple[int, ...], kind: type = np.uint8) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)

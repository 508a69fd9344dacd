"""From export to prediction no engine opens a connection or writes into the home folder.

Both engines send telemetry unless they are kept from it. What native code sends is not seen by an
audit hook, but both leave an identifier in the home folder first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.export.exported import classifier_of
from vitrail.runtime.engines import is_installed

PROGRAM = """
import json, socket, sys

seen = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
           "socket.sendmsg", "urllib.Request", "http.client.connect")
sys.addaudithook(lambda name, given: seen.append(name) if name in WATCHED else None)

from vitrail.cli.main import main
from vitrail.export import speed

speed.SECS, speed.ROUNDS = 0.001, 1
model, out, image = sys.argv[1:]
codes = [main(["export", model, out, "--to", "openvino", "--images", "builtin:digits",
               "--check", "20"])]
for engine in ("torch", "onnx", "openvino"):
    codes.append(main(["predict", model, image, "--engine", engine]))
told, before = [name for name in sys.modules if "telemetry" in name], list(seen)
try:
    socket.create_connection(("127.0.0.1", 9), timeout=0.1)
except OSError:
    pass
print(json.dumps({"codes": codes, "seen": before, "telemetry": told,
                  "hook": "socket.connect" in seen}))
"""


@pytest.mark.skipif(
    not (is_installed("openvino") and is_installed("onnx")), reason="engines are not installed"
)
def test_no_engine_opens_a_connection_or_writes_into_home(tmp_path: Path) -> None:
    home, model, image = tmp_path / "home", tmp_path / "m", tmp_path / "a.png"
    home.mkdir()
    classifier_of().save(model)
    Image.new("RGB", (20, 20), (200, 30, 60)).save(image)
    words = [sys.executable, "-c", PROGRAM, str(model), str(model / "export"), str(image)]
    variables = {**os.environ, "HOME": str(home)}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "ORT_DISABLE_TELEMETRY"):
        variables.pop(name, None)
    done = subprocess.run(words, capture_output=True, text=True, env=variables, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"codes": [0] * 4, "seen": [], "telemetry": [], "hook": True}
    assert os.listdir(home) == []

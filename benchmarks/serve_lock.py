"""Writes requirements-serve.txt: what predict, eval and serve of an exported model need, without
torch, at the versions of constraints.txt, with the sha256 of every wheel that may be installed.

    python -m benchmarks.serve_lock

pip resolves for each Python and processor; the file is only written where all agree.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "requirements-serve.txt"
DIRECT = (
    *("numpy", "pillow", "simplejpeg", "safetensors", "pydantic", "cyclopts", "rich"),
    *("onnxruntime", "starlette", "uvicorn"),
)
PYTHONS = ("3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
GLIBC = ("2_17", "2_24", "2_27", "2_28", "2_31", "2_34")
HEAD = """\
# What predict, eval and serve of an exported model need, without torch: Linux, Python 3.11 to 3.13.
#   pip install --require-hashes -r requirements-serve.txt && pip install --no-deps .
# Written by `make serve-lock` from constraints.txt.
"""


def resolved(python: str, processor: str) -> list[dict[str, object]]:
    """What pip would install."""
    platforms = [f"--platform=manylinux_{glibc}_{processor}" for glibc in GLIBC]
    platforms.append(f"--platform=manylinux2014_{processor}")
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"),
                *("--ignore-installed", "--only-binary=:all:", f"--python-version={python}"),
                *platforms,
                *("--target", scratch, "--report", str(report), "-c", "constraints.txt", *DIRECT),
            ],
            check=True,
            cwd=ROOT,
        )
        found: list[dict[str, object]] = json.loads(report.read_text())["install"]
        return found


def main() -> None:
    hashes: dict[str, set[str]] = defaultdict(set)
    for python in PYTHONS:
        for processor in PROCESSORS:
            for item in resolved(python, processor):
                facts = json.loads(json.dumps(item))
                name = facts["metadata"]["name"].lower().replace("_", "-")
                pinned = f"{name}=={facts['metadata']['version']}"
                hashes[pinned].add(facts["download_info"]["archive_info"]["hashes"]["sha256"])
    names = [pinned.partition("==")[0] for pinned in hashes]
    if len(set(names)) != len(names):
        raise SystemExit(f"versions differ between Pythons: {sorted(hashes)}")
    lines = []
    for pinned in sorted(hashes):
        lines.append(
            " \\\n    ".join([pinned, *(f"--hash=sha256:{h}" for h in sorted(hashes[pinned]))])
        )
    PLACE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

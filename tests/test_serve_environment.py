"""An environment without torch: `requirements-serve.txt` and vitrail itself, nothing else.

It predicts, evaluates and serves an exported model; how large and how fast it is stands in
docs/serve.md.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.dockerfile import instructions, pip_commands
from tests.export.exported import classifier_of

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ROOT / "requirements-serve.txt"
MOST_MB, MOST_RSS_MB, MOST_READY_SECS = 260, 130, 2.0


def pinned(text: str) -> dict[str, str]:
    """Package -> version of the lines NAME==VERSION."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s\\]+)", text, flags=re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def test_the_locked_versions_are_those_of_the_constraints() -> None:
    locked = pinned(LOCKED.read_text())
    constraints = pinned((ROOT / "constraints.txt").read_text())
    assert {name: constraints.get(name) for name in locked} == locked


def test_every_locked_package_has_hashes_and_none_is_torch() -> None:
    text = LOCKED.read_text()
    entries = re.split(r"\n(?=[a-z])", text.split("\n", 3)[3])
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not set(pinned(text)) & {"torch", "scipy", "onnx", "onnxscript", "torchvision"}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment, made by the steps of the Dockerfile."""
    place = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
    binaries = place / "venv" / "bin"
    pip = [str(binaries / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    places = {"/requirements-serve.txt": str(LOCKED), "/wheels": str(place), ".": str(ROOT)}
    for command in pip_commands(ROOT / "Dockerfile", pip, places):
        subprocess.run(command, check=True)
    return binaries


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX export of ten classes, 28 px, grey."""
    from vitrail.models.vit.config import ViTConfig

    folder = tmp_path_factory.mktemp("model")
    config = ViTConfig(
        image_size=(28, 28),
        patch_size=(4, 4),
        channels=1,
        width=96,
        depth=4,
        num_heads=3,
        mlp_dim=192,
        num_classes=10,
    )
    classifier_of(config).save(folder / "model")
    words = ["export", str(folder / "model"), str(folder / "onnx"), "--to", "onnx"]
    words += ["--images", "builtin:digits", "--split", "train"]
    subprocess.run([sys.executable, "-P", "-m", "vitrail", *words], check=True)
    return folder / "onnx"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A grey image."""
    Image.linear_gradient("L").resize((28, 28)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def megabytes(folder: Path) -> float:
    """What the files of a folder take."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / 1e6


def said(binaries: Path, *words: object) -> str:
    """stdout of a command that must go well."""
    done = subprocess.run(
        [str(binaries / "vitrail"), *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_is_small_and_has_no_torch(bare: Path) -> None:
    packages = next((bare.parent / "lib").glob("python*/site-packages"))
    names = {one.name.split("-")[0].lower() for one in packages.iterdir()}
    assert not names & {"torch", "scipy", "onnx", "torchvision"}
    tools = sum(megabytes(packages / name) for name in ("pip", "setuptools") if name in names)
    assert megabytes(packages) - tools <= MOST_MB


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_predicts_and_evaluates_as_torch_does(bare: Path, export: Path, image: Path) -> None:
    words = ("predict", export, image, "--json")
    with_torch = said(Path(sys.executable).parent, *words)
    scores = [json.loads(text)[0]["top"] for text in (said(bare, *words), with_torch)]
    for ours, theirs in zip(*scores, strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
    measured = json.loads(said(bare, "eval", export, "builtin:digits", "--json"))
    expected = json.loads(
        said(Path(sys.executable).parent, "eval", export, "builtin:digits", "--json")
    )
    assert measured["n"] == 1797
    assert measured["top1"] == expected["top1"]
    assert measured["nll"] == pytest.approx(expected["nll"], abs=1e-6)
    table = image.with_name("p.csv")
    said(bare, "predict", export, image, "--out", table, "--part-rows", 1)
    assert len(table.read_text().splitlines()) == 2
    refused = subprocess.run(
        [str(bare / "vitrail"), "explain", str(export), str(image)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode in (4, 5)
    assert "VIT-100" not in refused.stderr


@pytest.fixture
def served(bare: Path, export: Path) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """A server: its process, its address, the seconds until it was ready."""
    began = time.monotonic()
    (asked,) = (one.words for one in instructions(ROOT / "Dockerfile") if one.word == "CMD")
    words = [str(bare / "vitrail"), *asked, "--json"]
    words[words.index("/model")] = str(export)
    words[words.index("--port") + 1] = "0"
    words[words.index("--host") + 1] = "127.0.0.1"
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["url"].rstrip("/")
    while not is_ready(address) and process.poll() is None:
        time.sleep(0.02)
    yield process, address, time.monotonic() - began
    process.kill()
    process.communicate(timeout=30)


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_serves_little_and_soon(
    served: tuple[subprocess.Popen[str], str, float], image: Path
) -> None:
    process, address, ready_secs = served
    headers = {"Content-Type": "image/png"}
    request = urllib.request.Request(
        f"{address}/v1/classify?top=2", image.read_bytes(), headers=headers
    )
    for _ in range(20):
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)) == 2
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1000
    assert resident <= MOST_RSS_MB
    assert ready_secs <= MOST_READY_SECS * slowness()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def slowness() -> float:
    """How much more wall than processor time a pure loop takes here: 1 on an idle machine."""
    wall, processor = time.perf_counter(), time.process_time()
    sum(range(5_000_000))
    return max(1.0, (time.perf_counter() - wall) / (time.process_time() - processor))

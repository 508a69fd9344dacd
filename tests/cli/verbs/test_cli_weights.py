"""`vitrail models`: published weights listed, described, checked; how a download is told."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import Done, run
from vitrail.checkpoints.catalogue.weights import ROWS
from vitrail.cli.display import progress
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import bytes_text, progress_of

NAME = "vit_b32.sam_i1k_224"
PLACE = "vitrail/weights/storage.googleapis.com/vit_models/sam/ViT-B_32.npz"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a network that must not be used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vitrail.checkpoints.hub.download._open", None)
    return tmp_path


def good(*argv: object) -> Done:
    done = run(*argv)
    assert done.code == 0, done.err
    return done


def put(cache: Path, body: bytes, noted: bytes) -> Path:
    """A file in the cache, and the sha256 that its first download noted."""
    path = cache / PLACE
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    digest = hashlib.sha256(noted).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
    return path


def test_all_weights() -> None:
    records = good("models", "--weights", "--json").document
    assert [record["name"] for record in records] == [row.name for row in ROWS]
    lines = good("models", "--weights").out.splitlines()
    assert len(lines) == len(ROWS) + 1
    row = next(line for line in lines if line.startswith("vit_b16.augreg_i21k_i1k_384 "))
    assert row.split() == [
        "vit_b16.augreg_i21k_i1k_384",
        "google",
        "384",
        "1000",
        "85.49",
        "VT",
        "-",
        "Apache-2.0",
    ]


@pytest.mark.parametrize("name", ["vit_l32", "ViT-L/32", "vit-l_32"])
def test_weights_of_an_architecture_in_any_spelling(name: str) -> None:
    record = good("models", name, "--json").document
    assert record["parameters"] == 306_535_400
    names = [item["name"] for item in record["weights"]]
    assert names == [row.name for row in ROWS if row.model == "vit_l32"]
    assert len(names) == 4
    out = good("models", name).out
    assert all(item in out for item in names)
    assert good("models", name, "--weights", "--json").document == record["weights"]


def test_an_architecture_without_weights() -> None:
    assert good("models", "vit_e14", "--json").document["weights"] == []
    assert "no published weights are known" in good("models", "vit_e14").out


def test_one_row(cache: Path) -> None:
    record = good("models", NAME, "--json").document
    assert record["address"] == "https://storage.googleapis.com/vit_models/sam/ViT-B_32.npz"
    assert (record["top1"], record["reported_by"], record["downloaded"]) == (0.737, "TM", None)
    assert record["preprocess"]["resizer"] == "tensorflow"
    path = put(cache, b"weights", b"weights")
    assert good("models", NAME, "--json").document["downloaded"] == str(path)
    out = good("models", NAME).out
    assert "73.70 % (TM)" in out
    assert str(path) in out
    assert "begins with b5f2ef4d" in good("models", "vit_b16.deit_i1k_224").out
    assert "no classes" in good("models", "vit_s14.dinov2").out


def test_get_checks_what_is_here(cache: Path) -> None:
    path = put(cache, b"weights", b"weights")
    for name in (NAME, "google:sam/ViT-B_32.npz"):
        assert good("models", "--get", name, "--json").document == {
            "name": name,
            "address": "https://storage.googleapis.com/vit_models/sam/ViT-B_32.npz",
            "path": str(path),
            "bytes": 7,
            "sha256": hashlib.sha256(b"weights").hexdigest(),
            "licence": "Apache-2.0",
        }
    assert str(path) in good("models", "--get", NAME).out


def test_get_finds_damage(cache: Path) -> None:
    put(cache, b"weight!", b"weights")
    done = run("models", "--get", NAME, "--json")
    assert (done.code, done.document["code"]) == (4, "VIT-461")


@pytest.mark.parametrize(
    ("name", "exit_code", "code"),
    [
        ("runs/a", 2, "VIT-202"),
        ("vit_b16.augreg", 4, "VIT-463"),
        ("google:ViT-B_16", 4, "VIT-467"),
        ("hf:vit", 4, "VIT-464"),
    ],
)
def test_get_of_no_name(name: str, exit_code: int, code: str) -> None:
    done = run("models", "--get", name, "--json")
    assert (done.code, done.document["code"]) == (exit_code, code)
    assert done.document["hint"]


def test_predict_takes_a_name() -> None:
    done = run("predict", "vit_b16.nothing", Path(__file__), "--json")
    assert (done.code, done.document["code"]) == (4, "VIT-463")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **options: Any) -> str:
    """What a download of three pieces says."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(progress, "REFRESH_SECS", 0.0)
    monkeypatch.setenv("COLUMNS", "150")
    tell = progress_of(Output(**options))
    for done in (0, 1_500_000, 3_000_000):
        tell("downloading a\x1b.npz", done, 3_000_000)
    return stream.getvalue()


def test_a_terminal_gets_one_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(monkeypatch, Terminal())
    assert "downloading a\\x1b.npz  0.0 MB of 3.0 MB  0 %" in text
    assert "downloading a\\x1b.npz  1.5 MB of 3.0 MB  50 %" in text
    lines = [re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]|\r", "", line) for line in text.splitlines()]
    assert "downloading a\\x1b.npz  3.0 MB" in lines  # what stays
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_a_pipe_gets_one_note_and_quiet_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, io.StringIO()) == "downloading a\\x1b.npz (3.0 MB)\n"
    assert told(monkeypatch, Terminal(), quiet=True) == ""
    assert bytes_text("downloading b", 1_234_567, None, 0.0) == "downloading b  1.2 MB"

"""The tour of `make demo`, with a training of seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from vitrail.demo import demo

TINY = "--model vit_ti4 --model.width 24 --model.depth 2 --model.num_heads 2 --model.mlp_dim 48"


def test_every_command_of_the_tour_succeeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert demo([*TINY.split(), "--steps", "4", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    verbs = [line.split()[2] for line in out.splitlines() if line.startswith("$ vitrail ")]
    assert verbs == ["train", "eval", "data", "predict", "explain", "report"]
    assert (tmp_path / "runs" / "demo-1" / "report.html").is_file()
    assert (tmp_path / "runs" / "demo-1" / "model" / "model.json").is_file()
    assert len(list((tmp_path / "runs" / "demo-1" / "explain").glob("*.png"))) == 3
    assert "vitrail data check PHOTOS/" in out


def test_the_first_failing_command_ends_the_tour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert demo(["--model", "nothing"]) == 2
    done = capsys.readouterr()
    assert done.out.count("$ vitrail ") == 1
    assert "VIT-221" in done.err

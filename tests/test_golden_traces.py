"""The comparison of `benchmarks/golden_traces`: equal records are equal, a changed sum is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.golden_traces.__main__ import main
from benchmarks.golden_traces.record import normal

MODEL = "runs/plain/model/model.safetensors"
RECORD: dict[str, Any] = {
    "made": {"torch": "2.13.0"},
    "traces": {
        "plain": {"$ train": "exit 0", MODEL: "head.bias F32 [10] 1111"},
        "hf_vit": {},
    },
}


def written(folder: Path, name: str, tensors: str) -> str:
    """A record with this text for the tensors of its model."""
    plain = RECORD["traces"]["plain"] | {MODEL: tensors}
    path = folder / name
    path.write_text(json.dumps({**RECORD, "traces": {**RECORD["traces"], "plain": plain}}))
    return str(path)


def test_equal_records_are_identical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (written(tmp_path, name, "head.bias F32 [10] 1111") for name in "ab")
    assert main(["compare", first, second]) == 0
    assert capsys.readouterr().out == "plain: identical\nhf_vit: not here in both\n"


def test_a_changed_tensor_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(tmp_path, "a", "head.bias F32 [10] 1111")
    second = written(tmp_path, "b", "head.bias F32 [10] 2222")
    assert main(["compare", first, second]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"plain: differs: {MODEL} (line 1: head.bias F32 [10] 1111 | ")
    assert lines[0].endswith("2222)")
    assert lines[1] == "hf_vit: not here in both"


def test_another_hour_and_another_pace_are_no_difference() -> None:
    texts = [
        "started 2026-12-01T11:02:03+0000, took 59 s, eta 0:41, 120 img/s",
        "started 2026-12-02T12:00:59+0000, took 1 min 3 s, eta 1:02:03, 1,200 img/s",
    ]
    first, second = (normal(text, Path("/work")) for text in texts)
    assert first == second == "started DATE, took FIGURE, eta TIME, FIGURE"

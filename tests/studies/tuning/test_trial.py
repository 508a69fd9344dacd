"""A finished trial whose row was not written is read again from its folder, whatever lies there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vitrail.errors import ModelError
from vitrail.studies.tuning.trial import Trial, curve_of, run_trial
from vitrail.training.storage.run_dir import RunDir

RUN = {"schema": 1, "status": "finished", "seconds": 3.0}


def finished(folder: Path, results: object) -> Path:
    run = folder / "runs" / "0007"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(RUN | {"results": results}))
    (run / "metrics.jsonl").write_text('{"step": 5, "val/top1": 0.25}\n')
    return run


@pytest.mark.parametrize(
    "content",
    [b'{"x"}\n[1]\n', b"\xff\xfe\0\n", b"[" * 200_000, b'{"step": "a", "val/top1": []}\n', b"\n{"],
)
def test_lines_that_are_no_records_are_left_out(tmp_path: Path, content: bytes) -> None:
    good = b'{"step": 5, "val/top1": 0.25}\n'
    (tmp_path / "metrics.jsonl").write_bytes(good + content)
    assert curve_of(RunDir(tmp_path)) == {"val/top1@5": 0.25}


@pytest.mark.timeout(60)
@pytest.mark.promise("M7")
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    place = finished(tmp_path, {"val": {"top1": 0.25, "nll": 1.0, "n": 8}}) / "metrics.jsonl"
    place.rename(tmp_path / "other")
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(tmp_path / "other")
    else:
        place.mkdir()
    with pytest.raises(ModelError, match=r"metrics\.jsonl") as caught:
        run_trial(Trial(7, {}), [], tmp_path, 0, lambda step, top1: False, lambda share: None)
    assert caught.value.code == "VIT-409"


@pytest.mark.parametrize("results", [{}, {"val": {"top1": None, "nll": 1.0, "n": 8}}])
def test_a_record_without_figures_is_refused(tmp_path: Path, results: object) -> None:
    finished(tmp_path, results)
    with pytest.raises(ModelError, match=r"run\.json") as caught:
        run_trial(Trial(7, {}), [], tmp_path, 0, lambda step, top1: False, lambda share: None)
    assert caught.value.code == "VIT-409"

"""kill -9 of real processes at random moments: the same command ends with the straight table."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.batch_prediction.many_images import parts_there, save_many, save_model, start
from vitrail.batch_prediction.part_store import PartStore


def finished(place: Path, *words: object) -> tuple[bytes, str]:
    """The table that the command makes, and what it printed."""
    process = start(place, *words)
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    return (place / str(words[words.index("--out") + 1])).read_bytes(), printed.decode()


def killed_after(parts: int, place: Path, *words: object) -> None:
    """Start the command; once it has committed `parts` parts more, kill it, a moment later."""
    out = place / str(words[words.index("--out") + 1])
    before = len(parts_there(out))
    process = start(place, *words)
    while process.poll() is None and len(parts_there(out)) < before + parts:
        time.sleep(0.002)
    time.sleep(random.Random(before).uniform(0, 0.05))
    process.kill()
    process.communicate(timeout=60)


@pytest.mark.promise("R19")
@pytest.mark.parametrize(
    ("count", "rows", "kills"),
    [(24, 6, 1), pytest.param(400, 10, 10, marks=pytest.mark.slow)],
)
def test_a_killed_command_is_continued_by_itself(
    tmp_path: Path, count: int, rows: int, kills: int
) -> None:
    save_model(tmp_path / "model")
    save_many(tmp_path / "photos", count, bad=3)
    asked = ("model", "photos", "--part-rows", rows, "--batch-size", 4)
    straight, _ = finished(tmp_path, *asked, "--out", "straight.csv")
    each = max(1, count // rows // (kills + 1))
    for _ in range(kills):
        killed_after(each, tmp_path, *asked, "--out", "killed.csv")
    there = len(parts_there(tmp_path / "killed.csv"))
    assert there >= kills * each
    table, printed = finished(tmp_path, *asked, "--out", "killed.csv")
    assert table == straight
    assert f"{there} of {count // rows} parts had been computed before" in printed
    sources = [line.split(",")[0] for line in table.decode().splitlines()[1:]]
    assert len(set(sources)) == len(sources) == count
    left = {one.name for one in PartStore(tmp_path / "killed.csv").folder.path.iterdir()}
    assert left == {".lock", "job.json", "_SUCCESS.json"}
    assert not list(tmp_path.glob(".tmp-*"))

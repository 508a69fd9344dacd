"""`vitrail runs`: every run by name, whatever state it is in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run
from vitrail.runs.listing import list_runs
from vitrail.runs.lock import RunLock, boot_id

pytestmark = pytest.mark.timeout(60)


def made(folder: Path, name: str, status: str, *, age: float = 10.0, **more: Any) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    record = {"status": status, "model": {"name": "vit_ti4"}, **more}
    (place / "data.json").write_text('{"name": "photos"}')
    (place / "run.json").write_text(json.dumps(record))
    then = (place / "run.json").stat().st_mtime - age
    os.utime(place / "run.json", (then, then))
    return place


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = Path("runs")
    made(place, "done", "finished", age=90, results={"test": {"top1": 0.75}}, best={"step": 3})
    made(place, "halted", "stopped", age=7300, best={"step": 3, "val/top1": 0.5})
    made(place, "killed", "running", age=90_000)
    made(place, "broken", "failed", reason="VIT-301: 3 images cannot be decoded")
    return place


@pytest.mark.promise("R17")
def test_every_status_is_told(folder: Path) -> None:
    done = run("runs")
    assert done.code == 0
    lines = done.out.splitlines()
    rows = {line.split()[0]: line for line in lines[1:5]}
    assert list(rows) == ["broken", "done", "halted", "killed"]  # newest first
    assert "finished" in rows["done"]
    assert "0.7500 test" in rows["done"]
    assert "1 min ago" in rows["done"]
    assert "0.5000 val" in rows["halted"]
    assert "2 h ago" in rows["halted"]
    assert "interrupted" in rows["killed"]
    assert "1 d ago" in rows["killed"]
    assert "photos" in rows["killed"]
    assert "broken: VIT-301: 3 images cannot be decoded" in lines
    assert lines[-1] == "3 runs can be continued: vitrail train --resume runs/broken"


@pytest.mark.promise("R17")
def test_a_run_is_running_while_a_process_holds_it(folder: Path) -> None:
    with RunLock(folder / "killed"):
        assert {one.name: one.status for one in list_runs(folder)}["killed"] == "running"
    assert {one.name: one.status for one in list_runs(folder)}["killed"] == "interrupted"


@pytest.mark.promise("R17")
def test_a_living_process_of_another_kind_does_not_count(folder: Path) -> None:
    """The number of a dead process was given to another one."""
    (folder / "killed" / ".lock").write_text(json.dumps({"pid": os.getppid(), "boot": boot_id()}))
    assert {one.name: one.status for one in list_runs(folder)}["killed"] == "interrupted"


FORMS = {
    "a list": b"[]",
    "a number": b"3",
    "binary": b"\xff\x00\xfe",
    "empty": b"",
    "cut": b'{"sta',
    "deep": b"[" * 300_000,
    "another status": b'{"status": "well"}',
    "another type": b'{"status": "running", "results": [1]}',
    "large number": b'{"status": "running", "seconds": 1' + b"0" * 400 + b"}",
}


@pytest.mark.promise("M7")
@pytest.mark.parametrize("name", ["run.json", "data.json"])
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_run_is_named_and_hides_no_other(folder: Path, form: str, name: str) -> None:
    if name == "data.json" and form in ("another status", "another type", "large number"):
        return
    (folder / "done" / name).write_bytes(FORMS[form])
    (one,) = [entry for entry in list_runs(folder) if entry.name == "done"]
    assert one.status == "damaged"
    assert f"runs/done/{name} cannot be read" in one.note
    assert len(list_runs(folder)) == 4


@pytest.mark.promise("M7")
def test_links_and_pipes_are_named_and_not_followed(folder: Path) -> None:
    (folder / "latest").symlink_to("done")
    (folder / "done" / "data.json").unlink()
    os.mkfifo(folder / "done" / "data.json")
    (folder / "halted" / "run.json").unlink()
    (folder / "halted" / "run.json").symlink_to(folder.absolute() / "broken" / "run.json")
    states = {one.name: (one.status, one.note) for one in list_runs(folder)}
    assert states["latest"] == ("link", "to done")
    assert "a pipe" in states["done"][1]
    assert "a link" in states["halted"][1]


def test_one_run_none_and_no_folder(folder: Path) -> None:
    assert [one.name for one in list_runs(folder / "done")] == ["done"]
    done = run("runs", "runs/done", "--json")
    assert done.document["runs"][0]["best"] == 0.75
    done = run("runs", "nowhere")
    assert (done.code, "VIT-202" in done.err) == (2, True)
    os.chdir(folder / "done")
    done = run("runs")
    assert (done.code, done.out) == (0, "no runs in runs; the first: vitrail train DATA\n")

"""What the commands do, from Python: the same records as with --json."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import vitrail
from tests.api.conftest import TINY
from tests.cli.cli_command import run
from tests.export.exported import classifier_of
from tests.studies.small_study import ONE_SECOND
from vitrail.cli.verbs.train import RunOptions
from vitrail.errors import EnvironmentFault, ModelError, UsageError
from vitrail.figures.plot import Figure, Series
from vitrail.studies import run as studies
from vitrail.studies.compute_study import Computed
from vitrail.studies.engine.cell import needed
from vitrail.studies.results.result import Outcome, Verdict


def test_training_says_what_it_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vitrail.train("builtin:digits", runs_dir=tmp_path, name="told", **TINY)
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("data ", "model ", "run "))]
    rows = [line.split() for line in lines if line.split()[:1] in (["1.05"], ["1.97"])]
    assert len(rows) == 2, lines
    assert [line for line in lines if line.startswith("done in ")]


def test_training_takes_what_the_command_takes(tmp_path: Path) -> None:
    """All that says how a run is trained and watched; not the ways of a process to go on."""
    ways = {"resume", "resume_or_start", "nproc", "shard", "config", "out"}
    named = {field.name for field in fields(RunOptions)} - ways
    assert named == {"profile", "track", "name"}
    assert named <= set(inspect.signature(vitrail.train).parameters)
    assert named - {"name"} <= set(inspect.signature(vitrail.resume).parameters)
    asked: dict[str, Any] = {**TINY, "epochs": None, "steps": 6, "residual_baseline": False}
    done = vitrail.train("builtin:digits", runs_dir=tmp_path, progress=False, profile=2, **asked)
    assert [*(done.run_dir / "profile").glob("*.json*")]
    for wrong in ({"profile": 101}, {"profile": -1}, {"track": "notes"}):
        with pytest.raises(UsageError, match="VIT-202"):
            vitrail.train("builtin:digits", runs_dir=tmp_path, **wrong)
        with pytest.raises(UsageError, match="VIT-202"):
            vitrail.resume(done.run_dir, **wrong)


def test_runs_and_report(trained: Path) -> None:
    found = vitrail.runs(trained.parent)
    assert [(one.name, one.status) for one in found] == [("a", "finished")]
    assert "finished" in repr(found)
    assert "<td>finished</td>" in found._repr_html_()
    page = trained / "report.html"
    before = page.stat().st_mtime_ns
    assert vitrail.report(trained) == [page, trained / "report.md"]
    assert page.stat().st_mtime_ns > before
    with pytest.raises(UsageError, match="VIT-202"):
        vitrail.runs(trained / "nothing")
    with pytest.raises(ModelError, match="VIT-40"):
        vitrail.report(trained.parent)


def test_convert_gives_the_record_of_the_command(tmp_path: Path) -> None:
    classifier_of(channels=3).save(tmp_path / "model")
    done = vitrail.convert(tmp_path / "model", tmp_path / "theirs", to="timm")
    assert done.checked.identical
    assert "identical" in repr(done)
    told = run("convert", tmp_path / "model", tmp_path / "again", "--to", "timm", "--json").document
    ours = json.loads(json.dumps(done.to_json()))
    assert {**ours, "files": 0} == {**told, "files": 0}
    with pytest.raises(ModelError, match="VIT-440"):
        vitrail.convert(tmp_path / "model", tmp_path / "theirs", to="timm")


def test_export_says_what_it_does(tmp_path: Path) -> None:
    classifier_of(channels=1).save(tmp_path / "model")
    said: list[str] = []
    done = vitrail.export(
        tmp_path / "model",
        tmp_path / "out",
        to="torch-export",
        images="builtin:digits",
        check=17,
        say=said.append,
    )
    assert done.record.file.name == "model.pt2"
    assert any("17 images" in one for one in said)
    with pytest.raises(UsageError, match="VIT-294"):
        vitrail.export(tmp_path / "model", tmp_path / "b", to="onxx")


def test_lr_find_writes_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = vitrail.LrFind([1e-4, 1e-3], [2.0, math.nan], 1e-4, 1e-4, "keep it")
    asked: list[Any] = []

    def search(layers: Any, *, reporter: Any) -> Any:
        asked.append(layers)
        return found

    monkeypatch.setattr("vitrail.api.learning_rate.search", search)
    assert vitrail.lr_find("photos", model="vit_s16") is found
    assert asked == [[("arguments", {"data.path": "photos", "model": "vit_s16"})]]
    vitrail.lr_find("photos", out=tmp_path / "lr")
    assert json.loads((tmp_path / "lr" / "lr_find.json").read_text())["losses"] == [2.0, None]
    with pytest.raises(UsageError, match="VIT-203"):
        vitrail.lr_find("photos", epochs=3)


def test_doctor_is_the_record_of_the_command() -> None:
    ours, told = vitrail.doctor(), run("doctor", "--json").document
    assert set(ours) == set(told)
    assert ours["extras"] == told["extras"]


@pytest.mark.slow
def test_a_comparison_is_computed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: dict[str, Any] = {"models": ["vit_digits"], "sizes": [101], "seeds": 1, "processes": 1}
    asked |= {"examples": 64, "out": tmp_path}
    first = vitrail.compare("builtin:digits", **asked, progress=False)
    assert capsys.readouterr().out == ""
    assert (first.folder, len(first.found.rows)) == (tmp_path / "digits", 1)
    assert first.page.is_file()
    assert first.verdict.answer in repr(first)
    html = first._repr_html_()
    assert html.count("<table") == len(first.tables)
    again = vitrail.compare("builtin:digits", **asked)
    assert "1 of them finished before" in capsys.readouterr().out
    assert again.facts == first.facts
    record = json.loads((first.folder / "study.json").read_text())
    assert record["command"].startswith("vitrail.compare('builtin:digits', models=['vit_digits'], ")


def test_a_comparison_without_its_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(study: Any, setup: Any, store: Any, engine: Any) -> Any:
        return {one.pace_key(): ONE_SECOND for one in needed(study.cells(setup))}

    def finish(planned: Any, *_: Any) -> Any:
        verdict = Verdict("Nothing < much.", "claim", "source", ["evidence"], ["limit"])
        tables = {"Top-1": [["arm", "10"], ["ViT", "0.5"]]}
        figure = Figure("a", "Curves", "images", "top-1", [Series("ViT", [1, 2], [0.1, 0.2])])
        return Computed([], len(planned.cells), 3), Outcome(verdict, [figure], tables, {"n": 1})

    monkeypatch.setattr(studies, "measure", measure)
    monkeypatch.setattr(studies, "run", finish)
    asked: dict[str, Any] = {"models": ["vit_digits"], "sizes": [101], "seeds": 1, "processes": 1}
    found = vitrail.compare("builtin:digits", **asked, examples=64, out=tmp_path)
    assert "plan   1 cell, 1 seed; the reference model sees 64 images" in capsys.readouterr().out
    assert (found.folder, found.facts["n"]) == (tmp_path / "digits", 1)
    assert repr(found).count("0 of 1 cell; Nothing < much.") == 1
    html = found._repr_html_()
    assert ("Nothing &lt; much." in html, "Nothing < much." in html) == (True, False)
    assert (html.count("<table"), html.count("data:image/svg+xml;base64,")) == (1, 1)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    capsys.readouterr()
    found.show()
    said = capsys.readouterr().out
    assert ("Nothing < much." in said, "study.html" in said, opened) == (True, True, [])
    found.show(browser=True)
    assert opened == [(tmp_path / "digits" / "study.html").as_uri()]
    vitrail.compare("builtin:digits", **asked, examples=64, out=tmp_path, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_study_refuses_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="VIT-292"):
        vitrail.study("data-sise", "builtin:digits", out=tmp_path)
    with pytest.raises(UsageError, match="VIT-293"):
        vitrail.study("data-size", "builtin:digits", rates=[0.1], out=tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(EnvironmentFault, match="VIT-520"):
        vitrail.study("data-size", "builtin:digits", engine="ray", seeds=1, out=tmp_path)

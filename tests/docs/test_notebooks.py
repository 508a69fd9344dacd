"""The notebooks in docs/: they run, on what comes with the package, and carry no outputs."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path

import pytest

from tests.docs.notebook import cells, read, run

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = ["compare-families", "explain", "train-and-trust"]
MAX_BYTES, MAX_SECS = 12_000, 30.0


def test_these_are_all() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{one}.ipynb" for one in NOTEBOOKS]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_small_and_without_outputs(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    notebook = read(path)
    assert path.stat().st_size < MAX_BYTES
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [one["id"] for one in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for one in notebook["cells"]:
        assert set(one) >= {"cell_type", "id", "metadata", "source"}
        assert one["cell_type"] != "code" or (one["outputs"], one["execution_count"]) == ([], None)
    text = "\n".join(cells(notebook, "code"))
    data = re.findall(r"\(\s*\"([^\"]*:[^\"]*)\"", text)
    assert set(data) == {"builtin:digits"}
    for code in cells(notebook, "code"):
        ast.parse(code)


def timed(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, object], str]:
    monkeypatch.chdir(folder)
    began = time.process_time()
    names, shown = run(read(FOLDER / f"{name}.ipynb"))
    assert time.process_time() - began < MAX_SECS  # of this processor; others may be at work
    return names, "\n".join(shown)


def test_explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, shown = timed("explain", tmp_path, monkeypatch)
    assert shown.count("data:image/png;base64,") == 4
    assert "block00/attention" in shown
    assert names["other"] != names["label"]


@pytest.mark.slow
def test_train_and_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown = timed("train-and-trust", tmp_path, monkeypatch)
    assert "Confusion matrix" in shown
    said = capsys.readouterr().out
    kept = [float(one) for one in re.findall(r"most confident: accuracy ([\d.]+)", said)]
    assert len(kept) == 3
    assert kept[0] <= kept[2]


@pytest.mark.slow
def test_compare_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, shown = timed("compare-families", tmp_path, monkeypatch)
    assert shown.count("<table") >= 2
    assert "True" in shown.splitlines()
    assert names["result"] is not names["again"]

"""Results as text, and as a notebook shows them."""

from __future__ import annotations

import base64
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vitrail
from tests.api.conftest import TINY
from tests.report.checked_page import Checked
from vitrail.explain.overlay import heat
from vitrail.explain.sheet import coloured, ends_of


class Shell:
    """As much of IPython as we ask for; what was displayed, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_kernel: bool = True) -> None:
        self.shown: list[str] = []
        shell = SimpleNamespace(**({"kernel": 1} if is_kernel else {}))
        kit = SimpleNamespace(HTML=str, display=self.display)
        fake = SimpleNamespace(get_ipython=lambda: shell, display=kit)
        monkeypatch.setitem(sys.modules, "IPython", fake)

    def display(self, shown: Any, display_id: bool = False) -> Any:
        self.shown.append(shown if isinstance(shown, str) else shown._repr_html_())
        return SimpleNamespace(update=self.shown.append)


def drawings(html: str) -> list[ElementTree.Element]:
    """The SVG images in a page that nests."""
    Checked(html)
    found = re.findall(r"data:image/svg.xml;base64,([^\"]+)", html)
    return [ElementTree.fromstring(base64.b64decode(one)) for one in found]


def test_a_run(
    run_result: vitrail.RunResult,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = repr(run_result)
    assert "\n" not in text
    top1 = f"{run_result.test['top1']:.4f}" if run_result.test else ""
    assert f"test top-1 {top1} (95 % " in text
    html = run_result._repr_html_()
    assert top1 in html
    assert len(drawings(html)) >= 2
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    run_result.show()
    said = capsys.readouterr().out
    assert (top1 in said, str(run_result.page) in said, opened) == (True, True, [])
    run_result.show(browser=True)
    assert opened == [run_result.page.as_uri()]
    shell = Shell(monkeypatch)
    run_result.show()
    assert (shell.shown, len(opened)) == ([html], 1)
    moved = vitrail.RunResult(tmp_path / "gone", 1.0, 2)
    assert drawings(moved._repr_html_()) == []


def test_a_classifier_an_evaluation_and_an_explanation(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = vitrail.load(trained)
    assert "classes 10: 0, 1, 2, 3, 4, ...;" in repr(classifier)
    assert "8 x 8 px, 1 channel;" in repr(classifier)
    assert "torch float32 on cpu" in classifier._repr_html_()
    found = classifier.evaluate("builtin:digits")
    assert repr(found) == (
        f"Evaluation(top-1 {found.top1:.4f} "
        f"(95 % {found.interval[0]:.4f}-{found.interval[1]:.4f}) on 180 images)"
    )
    (matrix,) = drawings(found._repr_html_())
    hints = [one.text or "" for one in matrix.iter() if one.tag.endswith("title")]
    wrong = [
        one
        for one in hints
        if (pair := re.match(r"actual (.+), predicted (.+):", one)) and pair[1] != pair[2]
    ]
    assert len(wrong) == np.count_nonzero(found.confusion - np.diag(np.diag(found.confusion)))
    image = np.arange(7 * 11, dtype=np.uint8).reshape(7, 11, 1)
    why = classifier.explain(image)
    assert repr(why).startswith(f"Explanation({why.method} of {why.label}, 1 x 1 values, ")
    capsys.readouterr()
    for one in (classifier, found, why):
        one.show()
    said = capsys.readouterr().out
    for expected in ("torch float32 on cpu", f" {found.top1:.4f}  {found.interval[0]:.4f} to "):
        assert expected in said
    assert 'save("map.png")' in said
    shell = Shell(monkeypatch)
    for one in (classifier, found, why):
        one.show()
    assert shell.shown == [one._repr_html_() for one in (classifier, found, why)]
    assert capsys.readouterr().out == ""
    assert "data:image/png;base64," in shell.shown[2]


def test_a_name_is_no_markup() -> None:
    name = "<b>\x1b"
    result = vitrail.RunResult(Path(name), 1.0, 2, baselines={name: 0.5})
    assert name not in result._repr_html_()
    assert "&lt;b&gt;\\x1b" in result._repr_html_()


@pytest.mark.parametrize("signed", [False, True])
def test_a_sheet_has_the_colours_of_the_overlay(signed: bool) -> None:
    """Over white, an overlay of full strength has the colours of the map alone."""
    values = np.linspace(-1 if signed else 0.25, 1, 5 * 7, dtype=np.float32).reshape(5, 7)
    low, high = ends_of(values, float(values.min()))
    assert (low < 0) is signed
    alone = coloured(values, low, high).astype(float)
    white = np.full((5, 7, 1), 255, np.uint8)
    factor = 224 // 7
    over = np.asarray(heat(white, values, float(values.min())), float)
    corner = over[:1, :1], over[-1:, -1:]
    ends = alone[:1, :1], alone[-1:, -1:]
    assert over.shape == (5 * factor, 7 * factor, 3)
    assert np.abs(corner[1] - (255 * 0.25 + 0.75 * ends[1])).max() <= 1
    if signed:
        assert np.abs(corner[0] - (255 * 0.25 + 0.75 * ends[0])).max() <= 1


def test_the_sheet_of_a_small_and_a_large_image(trained: Path) -> None:
    classifier = vitrail.load(trained)
    for height, width in ((7, 11), (301, 211)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 1), np.uint8)
        drawn = classifier.explain(image).sheet()
        side = 224 / max(height, width)
        assert drawn.width == 12 * 3 + 2 * round(width * side)
        assert drawn.height >= 2 * round(height * side)


def test_in_a_notebook_a_line_is_rewritten_and_taken_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(monkeypatch)
    vitrail.train("builtin:digits", runs_dir=tmp_path, name="n", **TINY)
    assert shell.shown[-1] == ""
    bars = [one for one in shell.shown if one.startswith("<progress value=")]
    assert bars
    assert all("step " in one for one in bars)
    assert capsys.readouterr().out.count("\n") > 10


def test_a_console_of_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.notebook import in_notebook

    assert not in_notebook()
    Shell(monkeypatch, is_kernel=False)
    assert not in_notebook()

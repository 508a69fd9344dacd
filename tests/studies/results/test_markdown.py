"""study.md: every part of an outcome stands in it, and a cell cannot break its table."""

from __future__ import annotations

from pathlib import Path

from vitrail.figures.plot import Figure, Series
from vitrail.markdown import table
from vitrail.studies.results.markdown import headed, write_markdown
from vitrail.studies.results.result import Outcome, Verdict


def test_everything_is_told(tmp_path: Path) -> None:
    verdict = Verdict("It is.", "It should be.", "arXiv 0", ["Measured: 3 points."], ["One seed."])
    figure = Figure("curve", "A curve", "x", "y", [Series("a", [1.0], [2.0])], note="Noted.")
    outcome = Outcome(verdict, [figure], {"Table": [["", "1"], ["a", "0.5"]]}, {})
    path = write_markdown(tmp_path, "Title", outcome, [("seeds", "0, 1")], "vitrail study made")
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "study.md"
    for part in (
        "# Title",
        "**It is.**",
        "It should be.",
        "- Measured: 3 points.",
        "- One seed.",
        "![A curve](curve.png)",
        "Noted.",
        "| a | 0.5 |",
        "| seeds | 0, 1 |",
        "    vitrail study made",
    ):
        assert part in text, part


def test_a_bar_or_a_line_break_stays_in_its_cell() -> None:
    lines = table(*headed([["head"], ["a|b\nc <i> *"]])).splitlines()
    assert lines == ["| head |", "| --- |", "| a\\|b\\\\x0ac &lt;i&gt; \\* |"]

"""What a study ends in: figures as data, and a verdict in plain words.

A study fills these in from its rows; `plots.py` draws them and `study_page.py` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one name, in the order of x. low, high: ends of the 95 % interval of each y,
    or empty. kind: marks joined by a line, marks alone, or a curve without marks (a fit; its
    interval is then a band). colour: 0, 1, 2 ... of the palette; a fit has that of its points.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    kind: Literal["line", "marks", "fit"] = "line"
    colour: int = 0


@dataclass(frozen=True)
class Figure:
    """A plot. key: its file name. x_labels: names of the positions 0, 1, 2 ... where x is a
    category. note: one sentence below it.
    """

    key: str
    title: str
    x_name: str
    y_name: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False
    x_labels: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """What may be concluded. answer: one sentence. claim: what the paper says, source: where.
    evidence: sentences with figures and intervals. limits: what this scale cannot show.
    """

    answer: str
    claim: str
    source: str
    evidence: Sequence[str]
    limits: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """verdict.json."""
        return {
            "answer": self.answer,
            "claim": self.claim,
            "source": self.source,
            "evidence": list(self.evidence),
            "limits": list(self.limits),
        }


@dataclass(frozen=True)
class Outcome:
    """Everything a study says of its rows. tables: by title, lines of cells, the first the head.
    facts: numbers for --json that have no other place.
    """

    verdict: Verdict
    figures: Sequence[Figure]
    tables: Mapping[str, Sequence[Sequence[str]]]
    facts: Mapping[str, Any]

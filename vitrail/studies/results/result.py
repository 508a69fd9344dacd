"""What a study ends in: figures as data (`figures/plot.py`), and a verdict in plain words.

A study fills these in from its rows; `study_page.py` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.figures.plot import Figure


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

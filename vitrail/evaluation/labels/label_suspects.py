"""Labels that are probably wrong, by confident learning.

Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 2021 (arXiv 1911.00068), section 3: of each class j the threshold t_j is the mean p(j) of the
images labelled j (equation 2); an image counts for the class of largest p among those with p(j)
>= t_j (equation 1), and one that counts for another class than its label is a suspect ("confident
joint, off the diagonal"). Suspects are ranked by p(label) - p(suggested), smallest first
("normalized margin").

Listed are those whose margin is at least 0.6 in favour of the other class, which costs little
recall and halves what is listed of hard images with the right label.

The probabilities must come from a model that has not learnt from the image: `Suspects.origin`
says which. Where that model is right too seldom, what it doubts says more about the model than
about the labels: nothing is listed, or what a rehearsal with planted labels allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.open_data import Source
from vitrail.data.sources.split import label_text
from vitrail.evaluation.labels.rehearsal import Judge, Strength, doubts, rehearse
from vitrail.files import write_csv

MIN_TOP1 = 0.8  # measured, like the next: docs/report.md
MIN_DOUBT = 0.6  # p(suggested) - p(label)
COLUMNS = ("split", "source", "label", "suggested", "p_label", "p_suggested")
OWN_PREDICTIONS = "the model of this run"

Probabilities = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
Place = tuple[str, Source, int]  # split, index


@dataclass(frozen=True)
class Suspect:
    """An image whose label is doubtful, and what it seems to be."""

    split: str
    index: int
    source: str
    label: str
    suggested: str
    p_label: float
    p_suggested: float


@dataclass(frozen=True)
class Suspects:
    """The suspects among n images, most doubtful first. top1: how often the probabilities of
    `origin` agree with the labels; why_not: a sentence where nothing is listed for a reason;
    strength: how well such a list finds wrong labels, where the judge is a weak one.
    """

    found: tuple[Suspect, ...]
    n: int
    top1: float
    origin: str
    why_not: str = ""
    strength: Strength | None = None

    def to_json(self, most: int | None = None) -> dict[str, Any]:
        """Plain values, at most `most` suspects."""
        return {
            "n": self.n,
            "suspects": len(self.found),
            "top1": self.top1,
            "origin": self.origin,
            "why_not": self.why_not,
            **({} if self.strength is None else {"strength": self.strength.to_json()}),
            "found": [asdict(one) for one in self.found[:most]],
        }


@dataclass(frozen=True, eq=False)
class Ranking:
    """Of n images: suggested (n,), -1 where no class passes its threshold; margin (n,), p(label)
    - p(suggested class or best other one); order: the suspects, most doubtful first (m,);
    thresholds (K,), NaN for classes without an image; joint (K, K): how many labelled i count for
    j.
    """

    suggested: Labels
    margin: NDArray[np.float64]
    order: Labels
    thresholds: NDArray[np.float64]
    joint: Labels


def rank(probabilities: Probabilities, labels: Labels) -> Ranking:
    """Confident learning on out-of-sample probabilities (n, K) of images with labels (n,)."""
    p = np.asarray(probabilities, np.float64)
    n, num_classes = p.shape
    rows = np.arange(n)
    own = p[rows, labels]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=own, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        thresholds = np.where(counts > 0, sums / counts, np.nan)  # (K,)
    passing = np.where(p >= thresholds, p, -1.0)  # comparisons with NaN are false
    suggested = np.where(passing.max(axis=1, initial=-1) >= 0, passing.argmax(axis=1), -1)
    joint = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(joint, (labels[suggested >= 0], suggested[suggested >= 0]), 1)
    others = p.copy()
    others[rows, labels] = -1
    margin = own - others.max(axis=1, initial=-1)
    is_suspect = (suggested >= 0) & (suggested != labels)
    margin[is_suspect] = (own - p[rows, suggested])[is_suspect]
    order = np.flatnonzero(is_suspect)
    order = order[np.argsort(margin[order], kind="stable")]
    return Ranking(suggested.astype(np.int64), margin, order, thresholds, joint)


def suspects(probabilities: Probabilities, places: Sequence[Place], origin: str) -> Suspects:
    """The suspects among the images at `places` (split, source, index), one label each."""
    labels = np.array([int(source.labels[index]) for _, source, index in places], np.int64)
    n = len(places)
    top1 = float((probabilities.argmax(axis=1) == labels).mean()) if n else 0.0
    if top1 < MIN_TOP1:
        why_not = (
            f"label check inconclusive: {origin} agrees with {100 * top1:.0f} % of the labels "
            f"({100 * MIN_TOP1:.0f} % needed)."
        )
        return Suspects((), n, top1, origin, why_not)
    ranking = rank(probabilities, labels)
    order = ranking.order
    chosen = order[ranking.margin[order] <= -MIN_DOUBT]
    found = [
        _suspect(probabilities, places[one], int(ranking.suggested[one]), one)
        for one in chosen.tolist()
    ]
    return Suspects(tuple(found), n, top1, origin)


def weak_suspects(judge: Judge, places: Sequence[Place], origin: str) -> Suspects:
    """As `suspects` by a judge that is right too seldom: the least likely labels, as many as a
    rehearsal with planted ones allows (`rehearsal.py`), or none, with the reason.
    """
    labels = np.array([int(source.labels[index]) for _, source, index in places], np.int64)
    probabilities = judge(labels)
    odds, is_doubted = doubts(probabilities, labels)
    top1 = float(1 - is_doubted.mean())
    strength = rehearse(judge, labels, len(places[0][1].classes))
    if strength is None:
        why_not = (
            f"label check inconclusive: {origin} agrees with {100 * top1:.0f} % of the labels and "
            "found too few of some that were made wrong for a rehearsal; features of a good model "
            "find more: --features MODEL."
        )
        return Suspects((), len(places), top1, origin, why_not)
    chosen = np.flatnonzero(is_doubted & (odds <= strength.threshold))
    chosen = chosen[np.argsort(odds[chosen], kind="stable")]
    best = probabilities.argmax(axis=1)
    found = [_suspect(probabilities, places[one], int(best[one]), one) for one in chosen.tolist()]
    return Suspects(tuple(found), len(places), top1, origin, strength=strength)


def _suspect(probabilities: Probabilities, place: Place, suggested: int, row: int) -> Suspect:
    split, source, index = place
    p = probabilities[row]
    return Suspect(
        split,
        index,
        source.source_id(index),
        label_text(source, index),
        source.classes[suggested],
        float(p[int(source.labels[index])]),
        float(p[suggested]),
    )


def write_suspects(found: Sequence[Suspect], out: str | Path) -> Path:
    """label_suspects.csv: a line for each suspect, most doubtful first."""
    rows = (
        (
            one.split,
            one.source,
            one.label,
            one.suggested,
            f"{one.p_label:.6g}",
            f"{one.p_suggested:.6g}",
        )
        for one in found
    )
    return write_csv(Path(out), COLUMNS, rows, replace=True)

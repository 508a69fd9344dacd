"""How well a judge of labels finds wrong ones: some are planted, and it looks for them.

Where a judge is right too seldom, what it doubts says more about the judge than about the labels
(`label_suspects.py`). How much more can be measured on the very images: a share of the labels is
replaced by others at random, the judge is asked again without knowing which, and the least likely
labels are listed as long as enough of them were planted. The same list is then made of the labels
as they are, and its strength is said: how many of the planted ones it finds, and what else it
lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.spelling import count

SHARE = 0.05  # of the labels, planted at a time
DRAWS = 3
MIN_PRECISION = 0.3  # planted ones among those listed; the others may be wrong too
MIN_RECALL = 0.1  # below, nothing is listed

Labels = NDArray[np.int64]
Judge = Callable[[Labels], NDArray[np.float32]]  # labels (n,) -> probabilities (n, K), left out


@dataclass(frozen=True)
class Strength:
    """threshold: a label is listed whose probability is at most this, and another class has more;
    recall: of the planted labels, how many were listed; precision: of the listed, how many were
    planted; planted: how many there were in all draws; share: of the labels at a time.
    """

    threshold: float
    recall: float
    precision: float
    planted: int
    share: float = SHARE

    def to_json(self) -> dict[str, Any]:
        """The numbers, and what they say."""
        return {**asdict(self), "sentence": self.sentence()}

    def sentence(self) -> str:
        """What a reader has to know of a list."""
        return (
            f"strength: of {count(self.planted, 'label')} made wrong for a rehearsal "
            f"({100 * self.share:.0f} % at a time) it lists {100 * self.recall:.0f} %, and "
            f"{100 * self.precision:.0f} % of what it lists then is one of them; the others look "
            "wrong to it and may be right"
        )


def rehearse(judge: Judge, labels: Labels, num_classes: int) -> Strength | None:
    """The longest list that is strong enough; None where there is none. labels: (n,), n >= 20."""
    n, odds, planted = len(labels), list[NDArray[np.float32]](), list[NDArray[np.bool_]]()
    each = round(SHARE * n)
    for draw in range(DRAWS):
        changed, is_planted = plant(labels, num_classes, draw)
        p, doubted = doubts(judge(changed), changed)
        odds.append(p[doubted])
        planted.append(is_planted[doubted])
    order = np.argsort(p_all := np.concatenate(odds), kind="stable")
    found = np.cumsum(np.concatenate(planted)[order])
    precision = found / np.arange(1, len(order) + 1)
    recall = found / max(1, each * DRAWS)
    strong = np.flatnonzero((precision >= MIN_PRECISION) & (recall >= MIN_RECALL))
    if not len(strong):
        return None
    last = int(strong[-1])
    ends = (float(p_all[order][last]), float(recall[last]), float(precision[last]))
    return Strength(*ends, planted=each * DRAWS)


def plant(labels: Labels, num_classes: int, seed: int) -> tuple[Labels, NDArray[np.bool_]]:
    """`labels` with a share of them replaced by any other class, and which these are. (n,), (n,)"""
    numbers = np.random.default_rng([seed, len(labels)])
    which = numbers.choice(len(labels), round(SHARE * len(labels)), replace=False)
    changed, is_planted = labels.copy(), np.zeros(len(labels), np.bool_)
    changed[which] = (labels[which] + numbers.integers(1, num_classes, len(which))) % num_classes
    is_planted[which] = True
    return changed, is_planted


def doubts(
    probabilities: NDArray[np.float32], labels: Labels
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The probability of each label, and whether another class has more. (n,), (n,)"""
    own = probabilities[np.arange(len(labels)), labels]
    return own, probabilities.argmax(axis=1) != labels

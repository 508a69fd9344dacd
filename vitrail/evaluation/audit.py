"""What a finished run finds out about its data: leakage between splits, and doubtful labels.

Held-out labels are judged by the run's own predictions, training labels by ridge regression with
each picture left out, because the network has learnt from those (`left_out.py`). In a run directory
it becomes audit.json (the findings that a report shows), duplicates.csv and label_suspects.csv (all
of them).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.decode import MAX_PIXELS
from vitrail.data.duplicates import Duplicates, find_duplicates, write_duplicates
from vitrail.data.looks import Look, Wanted, look_at, sketches_of, small_pictures
from vitrail.data.records import Indices
from vitrail.data.sample import keyed_order
from vitrail.data.sources import ArraySource, Source, Splits, subset
from vitrail.evaluation.features import Frozen
from vitrail.evaluation.label_suspects import (
    OWN_PREDICTIONS,
    Suspects,
    suspects,
    write_suspects,
)
from vitrail.evaluation.left_out import gradients, left_out
from vitrail.evaluation.record import Evaluation

SCHEMA = 1
SMALL_PX = 32
AT_ONCE = 256  # files looked at between two looks at the clock
MOST = 200  # groups, and suspects of a split, in audit.json
# Seconds, measured on one slow core: of comparing a pair of pictures, of the gradients of a
# picture, and of its share of the ridge regression, which grows with each class.
PAIR_SECS, GRADIENT_SECS, RIDGE_SECS, CLASS_SECS = 2e-9, 2e-4, 4e-4, 1.4e-6
Place = tuple[str, Source, int]  # split, index
LEFT_OUT = "leave-one-out ridge regression on histograms of gradients"
NO_TIME = "not doubted, for lack of time: vitrail data check --labels"


@dataclass(frozen=True)
class Limits:
    """Of the time for looking at pictures again, and of their size."""

    max_secs: float = 60.0
    workers: int = 0
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Leak:
    """Pictures of a held-out split that are also among the training pictures."""

    pictures: int
    n: int
    top1: float | None = None  # of all, and without them; None where nothing was predicted
    top1_without: float | None = None


@dataclass(frozen=True)
class Audit:
    """duplicates: None where there was no time; looked: pictures of each split that were compared;
    notes: what was not done, in sentences.
    """

    duplicates: Duplicates | None
    looked: dict[str, int]
    leaks: dict[str, Leak]
    suspects: dict[str, Suspects]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What a report shows."""
        groups = self.duplicates.groups if self.duplicates else ()
        shown = sorted(groups, key=lambda one: (not one.is_leakage, not one.is_conflict))
        return {
            "schema": SCHEMA,
            "looked": self.looked,
            "duplicates": {
                "groups": len(groups),
                "across_splits": sum(one.is_leakage for one in groups),
                "other_labels": sum(one.is_conflict for one in groups),
                "shown": [asdict(one) for one in shown[:MOST]],
            }
            if self.duplicates
            else None,
            "leaks": {split: asdict(one) for split, one in self.leaks.items()},
            "label_suspects": {split: one.to_json(MOST) for split, one in self.suspects.items()},
            "notes": self.notes,
        }

    def write_tables(self, folder: Path) -> list[Path]:
        """duplicates.csv and label_suspects.csv."""
        found = [one for own in self.suspects.values() for one in own.found]
        groups = self.duplicates.groups if self.duplicates else ()
        return [
            write_duplicates(groups, folder / "duplicates.csv"),
            write_suspects(found, folder / "label_suspects.csv"),
        ]

    def sentences(self) -> list[str]:
        """What a person should know at once: file names, numbers, advice."""
        told = []
        for split, leak in self.leaks.items():
            if not leak.pictures:
                continue
            cost = ""
            if leak.top1 is not None and leak.top1_without is not None:
                cost = f"; without them top-1 is {leak.top1_without:.4f}, not {leak.top1:.4f}"
            told.append(
                f"{leak.pictures} of {leak.n} {split} pictures are also in train{cost}. "
                f"The first: {self._example(split)}. All: duplicates.csv; keep equal pictures in "
                "one split"
            )
        for split, own in self.suspects.items():
            if own.why_not == NO_TIME:
                told.append(f"labels of {split} were {NO_TIME}")
            if own.found:
                one = own.found[0]
                told.append(
                    f"{len(own.found)} of {own.n} labels of {split} are doubted, first "
                    f"{one.source} ({one.label}; looks like {one.suggested}). "
                    "All: label_suspects.csv"
                )
        return told + self.notes

    def _example(self, split: str) -> str:
        for group in self.duplicates.groups if self.duplicates else ():
            if {"train", split} <= group.splits:
                pair = [next(one for one in group.members if one.split == part)
                        for part in ("train", split)]  # fmt: skip
                return " = ".join(map(str, pair))
        return ""


def audit(splits: Splits, evaluations: Mapping[str, Evaluation], limits: Limits) -> Audit:
    """Look at the pictures of `splits` again. evaluations: of each held-out split in its order."""
    deadline = time.monotonic() + limits.max_secs
    parts = splits.parts()
    order = sorted(parts, key=lambda part: part == "train")  # held-out ones first
    looks, places = {}, {}
    for part in order:
        places[part], looks[part] = _looks(parts[part], limits, deadline)
    seen = {part: subset(source, places[part]) for part, source in parts.items()}
    notes = [
        f"only {len(looks[part])} of {len(source)} {part} pictures were looked at for copies and "
        "doubtful labels, for lack of time: vitrail data check looks at all"
        for part, source in parts.items()
        if len(looks[part]) < len(source)
    ]
    looked = {part: len(looks[part]) for part in parts}
    duplicates = None
    if PAIR_SECS * sum(looked.values()) ** 2 <= limits.max_secs:
        found_in = find_duplicates(
            seen,
            {part: [look.digest for look in looks[part]] for part in parts},
            {part: sketches_of(seen[part], looks[part]) for part in parts},
        )
        duplicates = _placed(found_in, places)
    else:
        notes.append("copies were not looked for, for lack of time: vitrail data check does")
    found, more = _suspects(splits, evaluations, places["train"], looks["train"], deadline)
    leaks = _leaks(parts, duplicates, evaluations)
    return Audit(duplicates, looked, leaks, found, notes + more)


def _looks(source: Source, limits: Limits, deadline: float) -> tuple[Indices, list[Look]]:
    """A look at every image, or at a sample of those that the time allows; which, in order."""
    wanted = Wanted(sketch=True, small_px=SMALL_PX)
    if isinstance(source, ArraySource):
        return np.arange(len(source)), look_at(source, max_pixels=limits.max_pixels)
    order = keyed_order(source, "audit")
    found: list[Look] = []
    while len(found) < len(source) and time.monotonic() <= deadline:
        own = subset(source, order[len(found) : len(found) + AT_ONCE])
        found += look_at(own, max_pixels=limits.max_pixels, workers=limits.workers, wanted=wanted)
    places = order[: len(found)]
    return np.sort(places), [found[at] for at in np.argsort(places)]


def _placed(duplicates: Duplicates, places: Mapping[str, Indices]) -> Duplicates:
    """Groups that were found among some images, by their places among all."""
    groups = [
        replace(
            group,
            members=tuple(
                replace(one, index=int(places[one.split][one.index])) for one in group.members
            ),
        )
        for group in duplicates.groups
    ]
    return replace(duplicates, groups=tuple(groups))


def _suspects(
    splits: Splits,
    evaluations: Mapping[str, Evaluation],
    places: Indices,
    looks: Sequence[Look],
    deadline: float,
) -> tuple[dict[str, Suspects], list[str]]:
    if splits.multi_label:
        return {}, ["labels were not doubted: pictures have several"]
    found = {}
    for part, source in splits.parts().items():
        if part in evaluations and evaluations[part].n == len(source):
            judged = [(part, source, index) for index in range(len(source))]
            found[part] = suspects(evaluations[part].probabilities, judged, OWN_PREDICTIONS)
    per_class = CLASS_SECS * len(splits.classes)
    cost = (GRADIENT_SECS + RIDGE_SECS + per_class) * len(looks) + 2
    if time.monotonic() + cost > deadline:
        return {"train": Suspects((), len(splits.train), 0.0, LEFT_OUT, NO_TIME)} | found, []
    own = label_suspects({"train": subset(splits.train, places)}, {"train": looks})
    placed = tuple(replace(one, index=int(places[one.index])) for one in own.found)
    return {"train": replace(own, found=placed)} | found, []


def label_suspects(parts: Mapping[str, Source], looks: Mapping[str, Sequence[Look]]) -> Suspects:
    """Suspects among the pictures of `parts` together, each judged by all the others."""
    places: list[Place] = []
    pictures = []
    for part, source in parts.items():
        images, indices = small_pictures(source, looks[part], SMALL_PX)
        pictures.append(gradients(images))
        places += [(part, source, index) for index in indices]
    return _left_out_suspects(np.concatenate(pictures), places, LEFT_OUT)


def feature_suspects(
    parts: Mapping[str, Source], looks: Mapping[str, Sequence[Look]], frozen: Frozen, name: str
) -> Suspects:
    """As `label_suspects`, by the features of the model `name`, which has not learnt from them."""
    places: list[Place] = []
    rows = []
    for part, source in parts.items():
        good = np.array([i for i, look in enumerate(looks[part]) if not look.reason], np.int64)
        rows.append(frozen.features(subset(source, good)))
        places += [(part, source, int(index)) for index in good]
    origin = f"leave-one-out ridge regression on features of {name}"
    return _left_out_suspects(np.concatenate(rows), places, origin)


def _left_out_suspects(
    features: NDArray[np.float32], places: Sequence[Place], origin: str
) -> Suspects:
    labels = np.array([int(source.labels[index]) for _, source, index in places], np.int64)
    if len(np.unique(labels)) < 2:
        why_not = "no labels are listed: the pictures that can be read have only one."
        return Suspects((), len(places), 0.0, origin, why_not)
    probabilities = left_out(features, labels, len(places[0][1].classes)).probabilities
    return suspects(probabilities, places, origin)


def _leaks(
    parts: Mapping[str, Source],
    duplicates: Duplicates | None,
    evaluations: Mapping[str, Evaluation],
) -> dict[str, Leak]:
    if duplicates is None:
        return {}
    found = {}
    for part, source in parts.items():
        if part == "train":
            continue
        leaked = sorted(duplicates.leaked(part))
        judged = evaluations.get(part)
        if judged is None or judged.n != len(source):
            found[part] = Leak(len(leaked), len(source))
            continue
        kept = np.ones(judged.n, bool)
        kept[leaked] = False
        without = float(judged.correct[kept].mean()) if kept.any() else None
        found[part] = Leak(len(leaked), len(source), judged.top1, without)
    return found

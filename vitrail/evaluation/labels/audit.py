"""What a finished run finds out about its data: leakage between splits, and possible label errors.

Held-out labels are judged by the run's own predictions, training labels by ridge regression with
each image left out, because the network has learnt from those (`loo_ridge.py`). In a run
directory it becomes audit.json (the findings that a report shows), duplicates.csv and
label_suspects.csv (all of them).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.check.duplicates import Duplicates, find_duplicates, write_duplicates
from vitrail.data.check.inspection import (
    ImageStats,
    InspectOptions,
    inspect_images,
    sketches_of,
    small_images,
)
from vitrail.data.images.decode import MAX_PIXELS
from vitrail.data.sources.open_data import Source, Splits, subset
from vitrail.data.sources.sample import keyed_order
from vitrail.data.sources.source import Indices
from vitrail.evaluation.labels.label_suspects import (
    MIN_TOP1,
    OWN_PREDICTIONS,
    Place,
    Suspects,
    suspects,
    weak_suspects,
    write_suspects,
)
from vitrail.evaluation.labels.loo_ridge import gradients, left_out
from vitrail.evaluation.many_classes import ProbabilitySummary
from vitrail.evaluation.probes.features import Frozen
from vitrail.evaluation.record import Evaluation
from vitrail.spelling import count

SCHEMA = 1
SMALL_PX = 32
AT_ONCE, ARRAYS_AT_ONCE = 256, 4096  # images looked at between two looks at the clock
MOST = 200  # groups, and suspects of a split, in audit.json
# Seconds, measured on one slow core: of a look at an image in memory, of comparing a pair of
# images, of the gradients of an image, and of its share of the ridge regression, which grows
# with each class.
LOOK_SECS, PAIR_SECS = 6e-5, 2e-9
GRADIENT_SECS, RIDGE_SECS, CLASS_SECS = 2e-4, 4e-4, 1.4e-6
LEAST_REHEARSED = 200  # labels
LEFT_OUT = "leave-one-out ridge regression on histograms of gradients"
NO_TIME = "label check skipped (time limit)"


@dataclass(frozen=True)
class Limits:
    """Of the time for looking at images again, and of their size."""

    max_secs: float = 60.0
    workers: int = 0
    max_pixels: int = MAX_PIXELS
    slowness: float = 1.0  # how many times as long things take as on an idle machine
    data: str = "DATA"  # as one would name it to a command


@dataclass(frozen=True)
class Leak:
    """Images of a held-out split that are also among the training images."""

    pictures: int
    n: int
    top1: float | None = None  # of all, and without them; None where nothing was predicted
    top1_without: float | None = None


@dataclass(frozen=True)
class Audit:
    """duplicates: None where there was no time; looked: images of each split that were compared;
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
                f"{leak.pictures} of {leak.n} {split} images are also in train{cost}. "
                f"The first: {self._example(split)}. All: duplicates.csv; keep equal images in "
                "one split"
            )
        for split, own in self.suspects.items():
            if own.found:
                one = own.found[0]
                told.append(
                    f"{len(own.found)} of {count(own.n, 'label')} of {split} may be wrong, first "
                    f"{one.source} ({one.label}; looks like {one.suggested}). "
                    "All: label_suspects.csv"
                )
        return told + self.notes

    def skipped(self) -> list[str]:
        """What was not done for lack of time."""
        return [note for note in self.notes if "(time limit)" in note]

    def _example(self, split: str) -> str:
        for group in self.duplicates.groups if self.duplicates else ():
            if {"train", split} <= group.splits:
                pair = [
                    next(one for one in group.members if one.split == part)
                    for part in ("train", split)
                ]
                return " = ".join(map(str, pair))
        return ""


def audit(splits: Splits, evaluations: Mapping[str, Evaluation], limits: Limits) -> Audit:
    """Look at the images of `splits` again. evaluations: of each held-out split in its order."""
    deadline = time.monotonic() + limits.max_secs
    parts = splits.parts()
    looks, places = {}, {}
    for part in sorted(parts, key=lambda part: part == "train"):  # held-out ones first
        until = deadline if _is_of_use(parts, limits) else -math.inf
        places[part], looks[part] = _looks(parts[part], limits, until)
    seen = {part: subset(source, places[part]) for part, source in parts.items()}
    notes = [
        f"only {len(looks[part])} of {len(source)} {part} images were checked for duplicates and "
        f"label errors (time limit); to check all: vitrail data check {limits.data} --labels"
        for part, source in parts.items()
        if 0 < len(looks[part]) < len(source)
    ]
    looked = {part: len(looks[part]) for part in parts}
    duplicates = None
    if any(looked.values()) and time.monotonic() + _pair_secs(looked, limits) <= deadline:
        found_in = find_duplicates(
            seen,
            {part: [look.digest for look in looks[part]] for part in parts},
            {part: sketches_of(seen[part], looks[part]) for part in parts},
        )
        duplicates = _placed(found_in, places)
    else:
        notes.append(
            f"duplicate check skipped (time limit); to run it: vitrail data check {limits.data}"
        )
    found, more = _suspects(splits, evaluations, places["train"], looks["train"], limits, deadline)
    leaks = _leaks(parts, duplicates, evaluations)
    return Audit(duplicates, looked, leaks, found, notes + more)


def _looks(source: Source, limits: Limits, deadline: float) -> tuple[Indices, list[ImageStats]]:
    """A look at every image, or at a sample of those that the time allows; which, in order."""
    wanted = InspectOptions(sketch=True, small_px=SMALL_PX)
    in_memory = source.images is not None
    workers, at_once = (0, ARRAYS_AT_ONCE) if in_memory else (limits.workers, AT_ONCE)
    order = keyed_order(source, "audit")
    found: list[ImageStats] = []
    while len(found) < len(source) and time.monotonic() <= deadline:
        own = subset(source, order[len(found) : len(found) + at_once])
        found += inspect_images(own, max_pixels=limits.max_pixels, workers=workers, wanted=wanted)
    places = order[: len(found)]
    return np.sort(places), [found[at] for at in np.argsort(places)]


def _pair_secs(looked: Mapping[str, int], limits: Limits) -> float:
    """How long it takes to compare so many images with each other."""
    return PAIR_SECS * sum(looked.values()) ** 2 * limits.slowness


def _label_secs(num_train: int, num_classes: int, limits: Limits) -> float:
    """How long it takes to judge the training labels."""
    each = GRADIENT_SECS + RIDGE_SECS + CLASS_SECS * num_classes
    return (each * num_train + 2) * limits.slowness


def _is_of_use(parts: Mapping[str, Source], limits: Limits) -> bool:
    """Whether images in memory are worth a look: what it is for would have to fit too."""
    sizes = {part: len(source) for part, source in parts.items()}
    num_classes = len(parts["train"].classes)
    use = min(_pair_secs(sizes, limits), _label_secs(sizes["train"], num_classes, limits))
    looking = LOOK_SECS * sum(sizes.values()) * limits.slowness
    return parts["train"].images is None or looking + use <= limits.max_secs


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
    looks: Sequence[ImageStats],
    limits: Limits,
    deadline: float,
) -> tuple[dict[str, Suspects], list[str]]:
    if splits.multi_label:
        return {}, ["label check skipped: images have several labels"]
    found = {}
    for part, source in splits.parts().items():
        whole = part in evaluations and not isinstance(
            evaluations[part].probabilities, ProbabilitySummary
        )
        if whole and evaluations[part].n == len(source):
            judged = [(part, source, index) for index in range(len(source))]
            found[part] = suspects(evaluations[part].probabilities, judged, OWN_PREDICTIONS)
    cost = _label_secs(len(looks), len(splits.classes), limits)
    if not looks or time.monotonic() + cost > deadline:
        note = f"{NO_TIME}; to run it: vitrail data check {limits.data} --labels"
        return {"train": Suspects((), len(splits.train), 0.0, LEFT_OUT, NO_TIME)} | found, [note]
    own = label_suspects({"train": subset(splits.train, places)}, {"train": looks})
    placed = tuple(replace(one, index=int(places[one.index])) for one in own.found)
    return {"train": replace(own, found=placed)} | found, []


def label_suspects(
    parts: Mapping[str, Source],
    looks: Mapping[str, Sequence[ImageStats]],
    *,
    rehearsed: bool = False,
) -> Suspects:
    """Suspects among the images of `parts` together, each judged by all the others. rehearsed:
    where these are right too seldom, list what a rehearsal allows, which takes four times as long.
    """
    places: list[Place] = []
    pictures = []
    for part, source in parts.items():
        images, indices = small_images(source, looks[part], SMALL_PX)
        pictures.append(gradients(images))
        places += [(part, source, index) for index in indices]
    return _left_out_suspects(np.concatenate(pictures), places, LEFT_OUT, rehearsed=rehearsed)


def feature_suspects(
    parts: Mapping[str, Source],
    looks: Mapping[str, Sequence[ImageStats]],
    frozen: Frozen,
    name: str,
) -> Suspects:
    """As `label_suspects`, by the features of the model `name`, which has not learnt from them."""
    places: list[Place] = []
    rows = []
    for part, source in parts.items():
        good = np.array([i for i, look in enumerate(looks[part]) if not look.reason], np.int64)
        rows.append(frozen.features(subset(source, good)))
        places += [(part, source, int(index)) for index in good]
    origin = f"leave-one-out ridge regression on features of {name}"
    return _left_out_suspects(np.concatenate(rows), places, origin, rehearsed=True)


def _left_out_suspects(
    features: NDArray[np.float32], places: Sequence[Place], origin: str, *, rehearsed: bool
) -> Suspects:
    labels = np.array([int(source.labels[index]) for _, source, index in places], np.int64)
    if len(np.unique(labels)) < 2:
        why_not = "label check inconclusive: the images that can be read have only one label."
        return Suspects((), len(places), 0.0, origin, why_not)
    num_classes = len(places[0][1].classes)

    def judge(given: NDArray[np.int64]) -> NDArray[np.float32]:
        return left_out(features, given, num_classes).probabilities

    probabilities = judge(labels)
    is_weak = (probabilities.argmax(axis=1) == labels).mean() < MIN_TOP1
    if is_weak and rehearsed and len(labels) >= LEAST_REHEARSED:
        return weak_suspects(judge, places, origin)
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

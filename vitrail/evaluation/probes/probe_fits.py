"""The three kinds of probe: what is fitted, how it is chosen, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.open_data import Splits
from vitrail.data.sources.split import hold_out
from vitrail.errors import UsageError
from vitrail.evaluation.metrics.intervals import wilson
from vitrail.evaluation.probes import linear_probe, neighbours, ridge
from vitrail.evaluation.probes.features import Features, Frozen
from vitrail.evaluation.probes.probe_record import ProbeScore, ProbeSettings
from vitrail.spelling import count

SHOTS = (1, 5, 10, 25)
DRAWS = 3
HELD = 0.2  # of the training images, where choices need some and no split is for them

Labels = NDArray[np.int64]
Pictures = tuple[Features, Labels]


@dataclass(frozen=True)
class ProbeData:
    """A probe under way. test: features (n, R) of the judged images; judged: their labels."""

    frozen: Frozen
    splits: Splits
    settings: ProbeSettings
    test: Features
    judged: Labels

    @property
    def num_classes(self) -> int:
        """How many classes the data has."""
        return len(self.splits.classes)

    def figure(self, top1: float, num_train: int, **facts: Any) -> ProbeScore:
        """An accuracy on the judged images with the interval of their number."""
        n = len(self.judged)
        return ProbeScore(top1, wilson(round(top1 * n), n), num_train, **facts)


class FitResult(NamedTuple):
    """Figures, the images that choices were made on, and sentences for people."""

    figures: list[ProbeScore]
    chosen_on: str | None
    notes: list[str]


class Choosing(NamedTuple):
    """Training images to fit on while choosing; those of them held out to decide, none where the
    validation split does; and what decides, in words.
    """

    kept: Labels
    held: Labels
    told: str


def few_shot(task: ProbeData) -> FitResult:
    """Ridge regression on k images of each class, for each k the mean over draws."""
    labels, size = task.splits.train.labels, task.num_classes
    l2s = task.settings.l2 or (ridge.L2,)
    choosing = _choosing(task) if len(l2s) > 1 else None
    kept = np.arange(len(labels)) if choosing is None else choosing.kept
    held = np.zeros(0, np.int64) if choosing is None else choosing.held
    counts = np.bincount(labels[kept], minlength=size)
    shots, notes = _possible_shots(counts, task.settings.k or SHOTS)
    seeds = range(task.settings.seeds or DRAWS)
    draws = {
        k: [kept[ridge.draw_shots(labels[kept], size, k, seed)] for seed in seeds] for k in shots
    }
    wanted = np.unique(np.concatenate([held, *(rows for one in draws.values() for rows in one)]))
    x = task.frozen.rows(task.splits.train, wanted)

    def pictures(rows: Labels) -> Pictures:
        return x[np.searchsorted(wanted, rows)], labels[rows]

    val = None if choosing is None else _deciding(task, choosing, pictures(held))
    figures = []
    for k, rows_of in draws.items():
        fits = [ridge.fit(*pictures(rows), size) for rows in rows_of]
        sweep = {}
        if val is not None:
            means = np.mean([one.accuracies(*val, l2s) for one in fits], axis=0)
            sweep = dict(zip(l2s, means.tolist(), strict=True))
        l2 = max(sweep, key=lambda value: (sweep[value], value)) if sweep else l2s[0]
        by_seed = tuple(one.accuracies(task.test, task.judged, [l2])[0] for one in fits)
        facts = {"k": k, "l2": l2, "by_seed": by_seed, "sweep": sweep}
        figures.append(task.figure(float(np.mean(by_seed)), len(rows_of[0]), **facts))
    return FitResult(figures, choosing and choosing.told, notes)


def _possible_shots(counts: Labels, asked: Sequence[int]) -> tuple[list[int], list[str]]:
    """The k that give other draws than a smaller one, and what is to be said of classes with fewer
    images. counts: (K,).
    """
    shots: list[int] = []
    notes = []
    for k in sorted(set(asked)):
        if shots and shots[-1] >= counts.max():
            notes.append(
                f"k = {k} is left out: no class has more than {count(counts.max(), 'image')}"
            )
            continue
        shots.append(k)
        if fewer := int((counts < k).sum()):
            notes.append(
                f"k = {k}: {fewer} of {count(len(counts), 'class')} have fewer training "
                "images (the "
                f"smallest {counts.min()}); all of theirs are used"
            )
    return shots, notes


def linear(task: ProbeData) -> FitResult:
    """Logistic regression on all training images, l2 chosen on validation."""
    size, device, progress = task.num_classes, task.frozen.runtime.info.device, task.frozen.progress
    l2s = task.settings.l2 or linear_probe.SWEEP
    x, y = task.frozen.features(task.splits.train), task.splits.train.labels
    choosing = _choosing(task) if len(l2s) > 1 else None
    kept = np.arange(len(y)) if choosing is None else choosing.kept
    fits = linear_probe.fit_sweep(x[kept], y[kept], size, l2s, device=device, progress=progress)
    final, sweep = fits[0], {}
    if choosing is not None:
        val = _deciding(task, choosing, (x[choosing.held], y[choosing.held]))
        best, scores = linear_probe.best_of(fits, *val)
        final = fits[best]
        sweep = {one.l2: score for one, score in zip(fits, scores, strict=True)}
        if len(choosing.held):  # once more on all of the training images
            final = linear_probe.fit_sweep(x, y, size, [final.l2], device=device)[0]
    notes = []
    if sweep and final.l2 in (min(sweep), max(sweep)):
        notes.append(f"the chosen l2 {final.l2:g} is at an end of the sweep: widen it with --l2")
    if final.gradient > 10 * linear_probe.TOLERANCE:
        notes.append(f"not converged: the largest gradient is {final.gradient:.1e}")
    top1 = final.accuracy(task.test, task.judged)
    figure = task.figure(top1, len(y), l2=final.l2, sweep=sweep)
    return FitResult([figure], choosing and choosing.told, notes)


def knn(task: ProbeData) -> FitResult:
    """Plain and weighted votes of the nearest training images, for each k; one of them is chosen
    on validation.
    """
    choosing = _choosing(task)
    asked = sorted(set(task.settings.k or neighbours.NEIGHBOURS))
    num = len(choosing.kept)
    ks = [k for k in asked if k <= num]
    if not ks:
        raise UsageError(
            "VIT-263",
            f"--k {', '.join(map(str, asked))}: there are only {count(num, 'training image')}.",
            hint="For instance --k 1,5",
        )
    notes = [
        f"k = {k} is left out: there are only {count(num, 'training image')}"
        for k in asked[len(ks) :]
    ]
    x, y = task.frozen.features(task.splits.train), task.splits.train.labels
    options: dict[str, Any] = {"device": task.frozen.runtime.info.device}
    options["temperature"] = task.settings.temperature or neighbours.TEMPERATURE
    val = _deciding(task, choosing, (x[choosing.held], y[choosing.held]))
    bank = (x[choosing.kept], y[choosing.kept])
    on_val = np.array(neighbours.accuracies(bank, val, task.num_classes, ks, **options))  # (k, 2)
    tested = neighbours.accuracies(
        (x, y), (task.test, task.judged), task.num_classes, ks, **options
    )
    best = divmod(int(on_val.argmax()), 2)
    figures = []
    for row, k in enumerate(ks):
        for column, votes in enumerate(("plain", "weighted")):
            facts: dict[str, Any] = {"k": k, "votes": votes, "is_chosen": (row, column) == best}
            facts["val_top1"] = float(on_val[row, column])
            figures.append(task.figure(tested[row][column], len(y), **facts))
    return FitResult(figures, choosing.told, notes)


def _choosing(task: ProbeData) -> Choosing:
    """What decides where something has to be chosen: never the judged images."""
    train, val = task.splits.train, task.splits.val
    if val is not None and task.settings.split != "val":
        told = f"the val split ({count(len(val), 'image')})"
        return Choosing(np.arange(len(train)), np.zeros(0, np.int64), told)
    kept, held = hold_out(train.labels, HELD, 0)
    if not len(held):
        raise UsageError(
            "VIT-264",
            f"{task.splits.name} has too few training images ({len(train)}) to hold some out "
            "for choices.",
            hint="Leave nothing to choose: --kind few-shot, or one value with --l2",
        )
    return Choosing(kept, held, f"{len(held)} held out of {count(len(train), 'training image')}")


def _deciding(task: ProbeData, choosing: Choosing, held: Pictures) -> Pictures:
    """The images that decide: those held out, or the validation split."""
    val = task.splits.val
    if len(choosing.held) or val is None:
        return held
    return task.frozen.features(val), val.labels

"""Which family makes the most of its training compute? (arXiv 2010.11929, section 4.4, Figure 5)

The three families in two sizes each, trained for three amounts of compute that are the same for all
six models; every amount is a training with a schedule of its own. Compute is the paper's: three
times the forward pass, two operations a multiply-add, times the images seen (Table 6 has 55
exaFLOPs for ViT-B/32, which this makes of 7 epochs of JFT). At each amount a family is shown in the
size that validation images prefer there.

Full scale: Table 6, eighteen trainings of 7 or 14 epochs of JFT-300M, judged by fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.experiments.comparison import at_ends, gaps, grouped, table, whole
from vitrail.studies.experiments.families import BIT, HYBRID, RESNET, VIT, families, macs
from vitrail.studies.experiments.trainings import from_scratch
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import best, each_arm, in_words, points
from vitrail.studies.setup import Setup
from vitrail.training.plan.auto import WIDER

X = "gigaflops"
SHARES = (1 / 9, 1 / 3, 1.0)  # of the most compute
SMALL, LARGE = "small", "large"
LARGER: dict[str, dict[str, Any]] = {  # what the large size changes: 1.3 to 2.8 times the cost
    VIT: {f"model.{key}": value for key, value in WIDER._asdict().items()},
    RESNET: {"model.name": "resnet_s"},
    BIT: {"model.depths": (2, 2, 2)},
    HYBRID: {"model.depth": 6},
}
# Table 6: models and epochs.
FULL: dict[str, tuple[tuple[str, int], ...]] = {
    VIT: (
        ("vit_b32", 7),
        ("vit_b16", 7),
        ("vit_l32", 7),
        ("vit_l16", 7),
        ("vit_l16", 14),
        ("vit_h14", 14),
    ),
    BIT: (
        ("bit_r50x1", 7),
        ("bit_r50x2", 7),
        ("bit_r101x1", 7),
        ("bit_r152x1", 7),
        ("bit_r152x2", 7),
        ("bit_r152x2", 14),
        ("bit_r200x3", 14),
    ),
    HYBRID: (
        ("r50_vit_b32", 7),
        ("r50_vit_b16", 7),
        ("r50_vit_l32", 7),
        ("r50_vit_l16", 7),
        ("r50_vit_l16", 14),
    ),
}
CLAIM = (
    "For one accuracy after transfer ViTs take 2 to 4 times less compute than ResNets; hybrids "
    "are a little ahead of ViTs at small budgets, and for larger models no longer."
)
LIMITS = (
    "The paper's smallest training takes 50 exaFLOPs, millions of times what is spent here; which "
    "family is ahead, and where the hybrid stops being so, need not carry over.",
    "Accuracy is of held-out images of the same data, not after transfer.",
    "Two sizes a family: a front of more could be higher. Learning rates are of the small sizes.",
    "Compute counts multiply-adds of layers, not seconds (for those: vitrail study speed).",
)


def cells(setup: Setup) -> list[Cell]:
    """Seeds x families x sizes x amounts; with the most, the small ViT sees `setup.examples`."""
    if setup.is_full:
        return _full_cells(setup)
    models = families(setup)
    reference = macs(models[VIT], setup)
    found = []
    for seed in setup.seeds:
        for share in SHARES:
            at = _digits(6 * reference * setup.examples * share / 1e9)
            for arm, small in models.items():
                for size, model in ((SMALL, small), (LARGE, small | LARGER[arm])):
                    ratio = share * reference / macs(model, setup)
                    axes: dict[str, Axis] = {X: at, "size": size}
                    examples = setup.examples * ratio
                    found.append(from_scratch(setup, arm, axes, model, examples, seed))
    return found


def _full_cells(setup: Setup) -> list[Cell]:
    """Table 6; `setup.examples` are 7 epochs."""
    found = []
    for seed in setup.seeds:
        for arm, trainings in FULL.items():
            for name, epochs in trainings:
                examples = setup.examples * epochs // 7
                model = {"model.name": name}
                at = _digits(6 * macs(model, setup) * examples / 1e9)
                axes: dict[str, Axis] = {X: at, "size": name}
                found.append(from_scratch(setup, arm, axes, model, examples, seed))
    return found


def _digits(value: float) -> float:
    """Three of them."""
    return float(f"{value:.3g}")


def front(rows: Sequence[Row]) -> list[Row]:
    """Each family at each amount of compute in the size that validation prefers there."""
    chosen = best(whole(rows, "size", within=(X,)), choose_by="val/top1", over="size", within=(X,))
    return [replace(row, axes={X: row.axes[X]}) for row in chosen]


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Fronts over compute, all models in a table, and who is ahead where."""
    trained = [row for row in rows if row.values]
    fronts = front(trained)
    lines = points(fronts, "test/top1", X)
    figure = Figure(
        "compute",
        "Top-1 over training compute",
        "training compute, gigaFLOPs",
        "top-1, test images",
        each_arm(lines),
        log_x=True,
        note="Each family in the better of two sizes, by validation. Mean over seeds with its 95 % "
        "interval (Student).",
    )
    named = [
        replace(row, arm=f"{row.arm}, {row.axes['size']}", axes={X: row.axes[X]}) for row in trained
    ]
    tables = {"Test top-1 by training compute": table(named, "test/top1", X, "gigaFLOPs")}
    return Outcome(_verdict(fronts), [figure], tables, {})


def _verdict(fronts: Sequence[Row]) -> Verdict:
    what = "gigaFLOPs of training"
    rival = RESNET if any(row.arm == RESNET for row in fronts) else BIT
    against = at_ends(fronts, VIT, rival, "test/top1", X, what)
    against_hybrid = at_ends(fronts, HYBRID, VIT, "test/top1", X, what)
    return Verdict(
        answer=" ".join([*against, *against_hybrid]) or "No result: too few finished runs.",
        claim=CLAIM,
        source="arXiv 2010.11929, section 4.4, Figure 5 and Table 6",
        evidence=[
            *(_everywhere(fronts, VIT, RESNET) if rival == RESNET else []),
            *_everywhere(fronts, VIT, BIT),
            *_everywhere(fronts, HYBRID, VIT),
            *_everywhere(fronts, HYBRID, BIT),
            *_times(fronts, VIT, rival),
        ],
        limits=LIMITS,
    )


def _everywhere(fronts: Sequence[Row], first: str, second: str) -> list[str]:
    """A sentence for each amount of compute."""
    found = gaps(fronts, first, second, "test/top1", X)
    return [
        f"With {grouped(at)} gigaFLOPs, {in_words(found[at], first, second)}."
        for at in sorted(found, key=float)
    ]


def _times(fronts: Sequence[Row], first: str, second: str) -> list[str]:
    """How much compute `second` takes for what `first` reaches with the middle amount, per seed by
    interpolation over the logarithm of compute.
    """
    found, seeds = [], sorted({row.seed for row in fronts})
    for seed in seeds:
        curves = {arm: _curve(fronts, arm, seed) for arm in (first, second)}
        if len(curves[first]) < 2 or len(curves[second]) < 2:
            continue
        at, reached = curves[first][len(curves[first]) // 2]
        crossing = _reaches(curves[second], reached)
        if crossing is not None:
            found.append(crossing / at)
    if not found:
        return []
    return [
        f"For what {first} reaches with the middle amount, {second} takes {median(found):.2g} "
        f"times its compute (median, {min(found):.2g} to {max(found):.2g}; {len(found)} of "
        f"{len(seeds)} seeds reach it within what was trained)."
    ]


def _curve(fronts: Sequence[Row], arm: str, seed: int) -> list[tuple[float, float]]:
    """(compute, accuracy), ascending."""
    return sorted(
        (float(row.axes[X]), row.values["test/top1"])
        for row in fronts
        if row.arm == arm and row.seed == seed and "test/top1" in row.values
    )


def _reaches(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """The least compute at which a curve reaches `accuracy`; None outside of it."""
    for (x0, y0), (x1, y1) in zip(curve, curve[1:], strict=False):
        if y0 <= accuracy <= y1 and y1 > y0:
            share = (accuracy - y0) / (y1 - y0)
            return math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0)))
    return None


STUDY = Study(
    name="compute",
    title="Accuracy for training compute, by family",
    claim=CLAIM,
    source="arXiv 2010.11929, section 4.4",
    cells=cells,
    outcome=outcome,
    full="Table 6: 18 trainings of ViT, BiT and R50+ViT, 7 or 14 epochs of JFT-300M",
)

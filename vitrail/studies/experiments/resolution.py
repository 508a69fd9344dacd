"""Is it worth going to more pixels at the end? (arXiv 2010.11929, section 3.2)

The paper pre-trains at 224 px and fine-tunes at 384 px: patches keep their size, so there are more
of them, and the learned position embeddings are resampled to the new grid. Here a small ViT is
trained at a lower size and then goes on for a short time in two ways: at the higher size, and at
the lower one for as much computing. All three are judged at several sizes, position embeddings
resampled. Touvron et al. (arXiv 1906.06423, FixRes) found that a model whose training crops make
things larger is better at a higher test size than its own, untouched.

Images of a small array are seen at about two thirds of their size first and at their own in the
end, unless --image-size names the lower size; photographs at --image-size and at 1.5 times it.

Full scale: ViT-B/16, ImageNet-21k at 224 px, 20,000 steps of 512 on ImageNet at 384 px (Table 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.grids import NUM_IMAGES, nearest_side
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.experiments.comparison import gaps, table
from vitrail.studies.experiments.families import VIT, macs, small_vit
from vitrail.studies.experiments.trainings import from_scratch, from_weights, tuned_share
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import (
    Difference,
    difference,
    each_arm,
    in_words,
    points,
)
from vitrail.studies.setup import Setup
from vitrail.training.plan.auto import patch_size

MEASURED = "sizes/top1@"
TUNED = 1 / 4  # of the images of the first training, at the lower size
RATIO = 3 / 2  # of the higher size to the lower one
FULL_SIDES, FULL_PATCH = (14, 24), 16  # 224 and 384 px
CLAIM = (
    "It is often beneficial to fine-tune at a higher resolution than pre-training: with patches of "
    "the same size and position embeddings interpolated."
)
LIMITS = (
    "Where images are enlarged (always above their own size: 28 px of Fashion-MNIST, 32 of "
    "CIFAR-10), more pixels bring more tokens and no more detail.",
    "One rate and one length of fine-tuning for both ways of going on, on the same images as "
    "before; the paper fine-tunes on other data.",
    f"Sizes are compared on at most {NUM_IMAGES:,} test images, the same for all; the figures "
    "after fine-tuning are of all test images, each model at its own size.",
)


@dataclass(frozen=True)
class Sides:
    """Patches along the height, before and after; px of a patch; px, (height, width)."""

    patch: int
    low: tuple[int, int]
    high: tuple[int, int]

    @property
    def arms(self) -> tuple[str, str, str]:
        """The first training, then going on higher, and at the same size."""
        first = f"ViT at {self.low[0]} px"
        return first, f"{first}, then {self.high[0]} px", f"{first} for longer"


def sides(setup: Setup) -> Sides:
    """The two sizes of `setup`."""
    if setup.is_full:
        low, high = (FULL_PATCH * side for side in FULL_SIDES)
        return Sides(FULL_PATCH, (low, low), (high, high))
    size = setup.image_size
    patch = patch_size(size)
    is_own = not setup.facts.is_photos and size == setup.facts.size
    other = _scaled(size, patch, 1 / RATIO if is_own else RATIO)
    return Sides(patch, *((other, size) if is_own else (size, other)))


def _scaled(size: tuple[int, int], patch: int, ratio: float) -> tuple[int, int]:
    """`size` times about `ratio`, in whole patches, by the rows at which models are judged."""
    rows, cols = size[0] // patch, size[1] // patch
    side = nearest_side(rows * ratio)
    return side * patch, max(1, round(cols * side / rows)) * patch


def cells(setup: Setup) -> list[Cell]:
    """Of each seed a training and its two continuations."""
    found, at = [], sides(setup)
    names = at.arms
    model = _model(setup, at)
    low, high = (macs({**model, "data.image_size": size}, setup) for size in (at.low, at.high))
    for seed in setup.seeds:
        first = from_scratch(
            setup,
            names[0],
            _axes(at.low),
            {**model, "data.image_size": at.low},
            setup.examples,
            seed,
            measures=("sizes",),
        )
        going_on = setup.examples * tuned_share(setup, TUNED)
        longer = _going_on(setup, names[2], at.low, going_on, first)
        higher = _going_on(setup, names[1], at.high, going_on * low / high, first)
        found += [first, higher, longer]
    return found


def _model(setup: Setup, at: Sides) -> dict[str, Any]:
    """With learned position embeddings: those in which resampling matters."""
    if setup.is_full:
        return {"model.name": "vit_b16"}
    return {**small_vit(at.low), "model.name": f"vit_ti{at.patch}", "model.posemb": "learned"}


def _going_on(setup: Setup, arm: str, size: tuple[int, int], examples: float, start: Cell) -> Cell:
    own = {"data.image_size": size, "start.head": "by_name"}  # the same task
    return from_weights(setup, arm, _axes(size), own, examples, start, measures=("sizes",))


def _axes(size: tuple[int, int]) -> dict[str, Axis]:
    return {"trained_px": size[0]}


def by_size(rows: Sequence[Row]) -> list[Row]:
    """A row for each size at which a model was judged."""
    return [
        replace(row, axes={"px": int(name.removeprefix(MEASURED))}, values={"top1": value})
        for row in rows
        for name, value in row.values.items()
        if name.startswith(MEASURED)
    ]


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Accuracy over test size, and what became of going on."""
    judged = by_size(rows)
    lines = points(judged, "top1", "px")
    figure = Figure(
        "resolution",
        "Top-1 by the size at which images are shown",
        "height of the test images, px",
        "top-1, test images",
        each_arm(lines),
        note="Position embeddings resampled. Mean over seeds with its 95 % interval (Student).",
    )
    tables = {"Test top-1 by size in px": table(judged, "top1", "px", "px")}
    return Outcome(_verdict(sides(setup), rows, judged), [figure], tables, {})


def _verdict(at: Sides, rows: Sequence[Row], judged: Sequence[Row]) -> Verdict:
    first, higher, longer = at.arms
    tuned = [replace(row, axes={}) for row in rows if "test/top1" in row.values]
    answer = []
    if {higher, longer} <= {row.arm for row in tuned}:
        gap = difference(tuned, higher, longer, "test/top1")
        answer.append(f"For as much computing, each at its own size, {_said(gap, at)}.")
    evidence = [*answer, *_untouched(at, judged, first)]
    for name in (higher, longer):
        if {name, first} <= {row.arm for row in tuned}:
            gap = difference(tuned, name, first, "test/top1")
            evidence.append(f"Each at its own size, {in_words(gap, name, first)}.")
    found = gaps(judged, higher, first, "top1", "px")
    if at.high[0] in found:
        words = in_words(found[at.high[0]], "the fine-tuned model", "the untouched one")
        evidence.append(f"Shown {at.high[0]} px, {words}.")
    return Verdict(
        answer=" ".join([*answer, *_untouched(at, judged, first)])
        or "No result: too few finished runs.",
        claim=CLAIM,
        source="arXiv 2010.11929, section 3.2",
        evidence=evidence,
        limits=LIMITS,
    )


def _said(gap: Difference, at: Sides) -> str:
    return in_words(gap, f"going on at {at.high[0]} px", f"going on at {at.low[0]} px")


def _untouched(at: Sides, judged: Sequence[Row], arm: str) -> list[str]:
    """The first training at the higher size against its own, without any fine-tuning."""
    more, own = (f"{VIT} shown {size[0]} px" for size in (at.high, at.low))
    made = [
        replace(row, arm=name, axes={})
        for name, size in ((more, at.high), (own, at.low))
        for row in judged
        if row.arm == arm and row.axes["px"] == size[0]
    ]
    if {row.arm for row in made} != {more, own}:
        return []
    gap = difference(made, more, own, "top1")
    return [f"Trained at {at.low[0]} px and not fine-tuned, {in_words(gap, more, own)}."]


STUDY = Study(
    name="resolution",
    title="Fine-tuning and testing at a higher resolution",
    claim=CLAIM,
    source="arXiv 2010.11929, section 3.2",
    cells=cells,
    outcome=outcome,
    full="ViT-B/16 pre-trained at 224 px, 20,000 steps of 512 images at 384 px",
)

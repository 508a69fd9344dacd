"""What is self-supervision worth? (arXiv 2010.11929, section 4.6 and appendix B.1.2)

A ViT learns to predict masked patches on all training images, without looking at a label; then
it is fine-tuned on few labelled ones. Beside it, for as long on the same labelled images: the
same model from random values, and one that was pre-trained with the labels of all images, as long
as the first. Heads are new in fine-tuning, as they are in the paper, whose two data sets have other
classes.

Full scale: ViT-B/16, a million steps of 4096 images of JFT-300M, then ImageNet: 79.9 %, 2 points
above training from scratch and 4 below supervised pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.experiments.comparison import at_ends, gaps, grouped, table
from vitrail.studies.experiments.families import one_vit
from vitrail.studies.experiments.trainings import (
    from_scratch,
    from_weights,
    full_recipe,
    tuned_share,
)
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import each_arm, in_words, points
from vitrail.studies.setup import Setup

MASKED, SUPERVISED = "masked pre-training", "supervised pre-training"
SCRATCH = "no pre-training"
PRETRAINED = "pictures"  # the axis of a parent
TUNED = 1 / 8  # images seen in fine-tuning, of those seen before
FULL_LABELS = 1_281_167  # ImageNet
CLAIM = (
    "ViT-B/16 pre-trained by masked patch prediction reaches 79.9 % on ImageNet: 2 points above "
    "training from scratch, 4 points behind supervised pre-training."
)
LIMITS = (
    "The paper pre-trains for 14 epochs of 300 million images; a few passes over thousands of "
    "small ones show what is learnt early, not what such training leads to.",
    "Without pre-training a model sees the images of fine-tuning alone; what as much computing "
    "as pre-training takes would bring on the few labels is not shown.",
    "Supervised pre-training has the labels of all images, the few included: a bound, where "
    "labels are scarce no choice.",
    "One rate for all fine-tuning, and for training from scratch its own; none was searched for "
    "these numbers of labels.",
    "The target is the mean colour of a patch; of gray images that is one of 8, not of 512.",
)


def cells(setup: Setup) -> list[Cell]:
    """Of each seed two pre-trainings, and three fine-tunings for each number of labels."""
    found: list[Cell] = []
    for seed in setup.seeds:
        starts: dict[str, Cell | None] = {
            MASKED: _pretraining(setup, MASKED, seed),
            SUPERVISED: _pretraining(setup, SUPERVISED, seed),
            SCRATCH: None,
        }
        found += [start for start in starts.values() if start is not None]
        found += [
            _finetuning(setup, arm, start, labels, seed)
            for labels in few(setup)
            for arm, start in starts.items()
        ]
    return found


def few(setup: Setup) -> tuple[int, ...]:
    """Numbers of labels: those asked for that leave images without one."""
    if setup.is_full:
        return (min(FULL_LABELS, setup.num_train),)
    return tuple(size for size in setup.sizes if size < setup.num_train) or setup.sizes


def _pretraining(setup: Setup, arm: str, seed: int) -> Cell:
    own = one_vit(setup)
    if not setup.is_full:
        own["data.normalize"] = "dataset"
    recipe = "paper.masked_patches" if arm == MASKED else ""
    axes: dict[str, Axis] = {PRETRAINED: setup.num_train}
    return from_scratch(setup, arm, axes, own, setup.examples, seed, recipe=recipe)


def _finetuning(setup: Setup, arm: str, start: Cell | None, labels: int, seed: int) -> Cell:
    own = {"objective": "classify", "data.train_pictures": labels}
    axes: dict[str, Axis] = {"labels": labels}
    examples = setup.examples * tuned_share(setup, TUNED)
    if start is not None:
        return from_weights(setup, arm, axes, own, examples, start)
    recipe = full_recipe(labels) if setup.is_full else ""
    return from_scratch(setup, arm, axes, {**one_vit(setup), **own}, examples, seed, recipe=recipe)


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Accuracy over labels."""
    tuned = [row for row in rows if "labels" in row.axes and "test/top1" in row.values]
    lines = points(tuned, "test/top1", "labels")
    figure = Figure(
        "self-supervised",
        "Top-1 with few labels, by what came before",
        "labelled images",
        "top-1, test images",
        each_arm(lines),
        log_x=True,
        note="Mean over seeds with its 95 % interval (Student).",
    )
    tables = {"Test top-1 by labels": table(tuned, "test/top1", "labels", "labels")}
    return Outcome(_verdict(rows, tuned), [figure], tables, {})


def _verdict(rows: Sequence[Row], tuned: Sequence[Row]) -> Verdict:
    against_scratch = at_ends(tuned, MASKED, SCRATCH, "test/top1", "labels", "labels")
    evidence = []
    for other in (SCRATCH, SUPERVISED):
        for at, gap in gaps(tuned, MASKED, other, "test/top1", "labels").items():
            evidence.append(f"With {grouped(at)} labels, {in_words(gap, MASKED, other)}.")
    return Verdict(
        answer=" ".join(against_scratch) or "No result: too few finished runs.",
        claim=CLAIM,
        source="arXiv 2010.11929, section 4.6 and appendix B.1.2",
        evidence=[*evidence, *_task(rows)],
        limits=LIMITS,
    )


def _task(rows: Sequence[Row]) -> list[str]:
    """How well the masked patches themselves are predicted."""
    found = [row for row in rows if row.arm == MASKED and "val/patches/top1" in row.values]
    if not found:
        return []
    right = sum(row.values["val/patches/top1"] for row in found) / len(found)
    return [f"Of the corrupted patches of validation images {right:.1%} are predicted rightly."]


STUDY = Study(
    name="self-supervised",
    title="Masked patch prediction before few labels",
    claim=CLAIM,
    source="arXiv 2010.11929, section 4.6",
    cells=cells,
    outcome=outcome,
    full="ViT-B/16, a million steps of 4096 images of JFT-300M, then ImageNet at 384 px",
    has_sizes=True,
)

"""How much data does a ViT need? (arXiv 2010.11929, section 4.3, Figures 3 and 4)

The three families on nested subsets of the training images, from scratch; with --transfer also as
pre-training, judged by few-shot ridge regression (Figure 4) and by fine-tuning (Figure 3) on other
data. Everything but the number of images stays as it is, as in Figure 4: no regularisation is
tuned to a size.

Full scale: nested subsets of 9, 30, 90 and 300 million images, ViT-B/32, BiT-R50x1, R50+ViT-B/32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Row
from vitrail.studies.experiments.comparison import at_ends, sentence, table
from vitrail.studies.experiments.families import BIT, HYBRID, RESNET, VIT, families, macs
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

TUNED = 1 / 4  # images seen in fine-tuning, of those the reference model saw before
CLAIM = (
    "With little data a ResNet beats a ViT of similar cost, with much data the ViT wins: on JFT "
    "ViT-B/32 is behind BiT-R50x1 at 9 million images and ahead from 90 million on."
)
LIMITS = (
    "Thousands of small images stand for millions of large ones, and models of half a million "
    "weights for those of a hundred million: where curves cross does not carry over.",
    "Every cell has the same budget whatever its number of images; with a longer training small "
    "subsets overfit more, and large ones gain more.",
    "Intervals are over seeds (initial values, subset, order), not over data sets.",
)


def cells(setup: Setup) -> list[Cell]:
    """Seeds x sizes x families, and what follows on the transfer data."""
    found = []
    models = families(setup)
    reference = macs(models[VIT], setup)
    for seed in setup.seeds:
        for size in setup.sizes:
            for arm, model in models.items():
                ratio = reference / macs(model, setup)
                if setup.choices["equal"] == "epochs":
                    ratio = size / setup.num_train
                cell = _pretraining(
                    setup, arm, model, size, seed, max(1, int(setup.examples * ratio))
                )
                found.append(cell)
                if setup.transfer:
                    found.append(_finetuning(setup, cell))
    return found


def _pretraining(
    setup: Setup, arm: str, model: dict[str, object], size: int, seed: int, examples: int
) -> Cell:
    own = {**model, "data.train_pictures": size}
    measures = ("few-shot",) if setup.transfer else ()
    return from_scratch(setup, arm, {"pictures": size}, own, examples, seed, measures=measures)


def _finetuning(setup: Setup, start: Cell) -> Cell:
    """On the transfer data, as long as the few-shot images deserve."""
    axes = {**start.axes, "then": "fine-tuned"}
    examples = setup.examples * tuned_share(setup, TUNED)
    return from_weights(setup, start.arm, axes, {}, examples, start, on_transfer=True)


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Accuracy over images, and where the families cross."""
    trained = [row for row in rows if "then" not in row.axes and row.values]
    figures = [_figure("data-size", trained, "test/top1", "from scratch, test images")]
    if setup.transfer:
        tuned = [row for row in rows if row.axes.get("then") and row.values]
        figures.append(_figure("few-shot", trained, "few-shot/top1", "5-shot ridge regression"))
        figures.append(_figure("fine-tuned", tuned, "test/top1", "after fine-tuning"))
    tables = {"Test top-1": table(trained, "test/top1", "pictures")}
    return Outcome(_verdict(trained), figures, tables, {})


def _figure(key: str, rows: Sequence[Row], value: str, what: str) -> Figure:
    lines = points(rows, value, "pictures")
    return Figure(
        key,
        f"Top-1 {what}",
        "training images",
        "top-1",
        each_arm(lines),
        log_x=True,
        note="Mean over seeds with its 95 % interval (Student).",
    )


def _verdict(rows: Sequence[Row]) -> Verdict:
    rival = RESNET if any(row.arm == RESNET for row in rows) else BIT
    against = at_ends(rows, VIT, rival, "test/top1", "pictures", "training images")
    against_bit = at_ends(rows, VIT, BIT, "test/top1", "pictures", "training images")
    against_hybrid = at_ends(rows, VIT, HYBRID, "test/top1", "pictures", "training images")
    gains = _gains(rows)
    answer = " ".join(against) or "No result: too few finished runs."
    if gains and not any(gap.is_clear and gap.mean > 0 for gap in gains.values()):
        answer += (
            " But no family gains from more images here: the length of training is what limits "
            "them, so this does not yet ask the paper's question. Use a longer --budget or smaller "
            "--sizes."
        )
    return Verdict(
        answer=answer,
        claim=CLAIM,
        source="arXiv 2010.11929, section 4.3, Figures 3 and 4",
        evidence=[
            *against,
            *(against_bit if rival != BIT else []),
            *against_hybrid,
            *(
                sentence(f"{arm}: {in_words(gap, 'most images', 'fewest')}")
                for arm, gap in gains.items()
            ),
        ],
        limits=LIMITS,
    )


def _gains(rows: Sequence[Row]) -> dict[str, Difference]:
    """What the most images bring over the fewest, of each family that has both."""
    sizes = sorted({int(row.axes["pictures"]) for row in rows})
    found = {}
    for arm in dict.fromkeys(row.arm for row in rows):
        ends = [
            replace(
                row, arm="most images" if row.axes["pictures"] == sizes[-1] else "fewest", axes={}
            )
            for row in rows
            if row.arm == arm and row.axes["pictures"] in (sizes[0], sizes[-1])
        ]
        if len({row.arm for row in ends}) == 2:
            found[arm] = difference(ends, "most images", "fewest", "test/top1")
    return found


STUDY = Study(
    name="data-size",
    title="How much data a ViT needs",
    claim=CLAIM,
    source="arXiv 2010.11929, section 4.3",
    cells=cells,
    outcome=outcome,
    full="nested subsets of 9, 30, 90 and 300 million images; ViT-B/32, BiT-R50x1, R50+ViT-B/32",
    choices={"equal": "compute", "transfer": ""},
    has_sizes=True,
)

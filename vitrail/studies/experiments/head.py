"""Class token or average pooling? (arXiv 2010.11929, appendix D.3, Figure 9)

Three ways to read the encoder (CLS, GAP, MAP), each at every learning rate of a sweep, because the
paper found that what looked like a worse head was a rate that did not fit it. Each arm is then
judged on test images at the rate that its validation images chose.

Full scale: ViT-B/16 on ImageNet-21k, rates 8e-4 and 3e-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell, short
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.experiments.comparison import table
from vitrail.studies.experiments.families import one_vit
from vitrail.studies.experiments.trainings import from_scratch
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import best, difference, each_arm, in_words, points
from vitrail.studies.setup import Setup

ARMS = {"CLS": "cls", "GAP": "gap", "MAP": "map"}
RATES = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)
FULL_RATES = (3e-4, 8e-4)
CLAIM = (
    "A class token and average pooling are equally good, if each has its own learning rate: "
    "average pooling wants a lower one (3e-4) than the class token (8e-4)."
)
LIMITS = (
    "One small model and one data set; at this length of training a head that learns quickly has "
    "an advantage that a long training would take away.",
    "The best rate is the best of a coarse grid; differences below the step of the grid are not "
    "seen.",
)


def cells(setup: Setup) -> list[Cell]:
    """Seeds x rates x heads."""
    return [
        from_scratch(
            setup,
            arm,
            {"lr": rate},
            {**one_vit(setup), "model.pool": pool, "optim.lr": rate},
            setup.examples,
            seed,
        )
        for seed in setup.seeds
        for rate in rates(setup)
        for arm, pool in ARMS.items()
    ]


def rates(setup: Setup) -> tuple[float, ...]:
    """The sweep."""
    return tuple(setup.choices["rates"]) or (FULL_RATES if setup.is_full else RATES)


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """The sweep, and the arms at their own best rate."""
    done = [row for row in rows if row.values]
    chosen = best(done, choose_by="val/top1", over="lr")
    figures = [
        _figure("head", done, "test/top1", "Test top-1 of each head over the learning rate"),
        _figure("head-validation", done, "val/top1", "Validation top-1, which chooses the rate"),
    ]
    tables = {
        "Test top-1 by learning rate": table(done, "test/top1", "lr"),
        "At the rate that validation chose": _chosen_table(chosen),
    }
    return Outcome(_verdict(setup, done, chosen), figures, tables, {"rates": _rates(chosen)})


def _figure(key: str, rows: Sequence[Row], value: str, title: str) -> Figure:
    lines = points(rows, value, "lr")
    return Figure(
        key,
        title,
        "learning rate",
        "top-1",
        each_arm(lines),
        log_x=True,
        note="Mean over seeds with its 95 % interval (Student).",
    )


def _chosen_table(chosen: Sequence[Row]) -> list[list[str]]:
    body = []
    for arm in dict.fromkeys(row.arm for row in chosen):
        own = [row for row in chosen if row.arm == arm]
        cells_ = table(own, "test/top1", "lr")
        body.append([arm, short(own[0].axes["lr"]), cells_[1][1]])
    return [["head", "rate", "test top-1"], *body]


def _verdict(setup: Setup, rows: Sequence[Row], chosen: Sequence[Row]) -> Verdict:
    arms = list(dict.fromkeys(row.arm for row in chosen))
    pairs = [
        (one, other, difference(chosen, one, other, "test/top1", besides=("lr",)))
        for one, other in combinations(arms, 2)
    ]
    words = [f"At their own best rates, {in_words(gap, a, b)}." for a, b, gap in pairs]
    chose = ", ".join(f"{arm} {short(rate)}" for arm, rate in _rates(chosen).items())
    evidence = [*words, f"Rates chosen on validation images: {chose}.", *_edges(setup, chosen)]
    evidence += _at_one_rate(rows, chosen)
    answer = words[0] if words else "No result: too few finished runs."
    return Verdict(answer, CLAIM, "arXiv 2010.11929, appendix D.3, Figure 9", evidence, LIMITS)


def _edges(setup: Setup, chosen: Sequence[Row]) -> list[str]:
    """A warning for an arm whose best rate is an end of the sweep."""
    ends = (min(rates(setup)), max(rates(setup)))
    at_end = sorted({row.arm for row in chosen if row.axes["lr"] in ends})
    if not at_end or len(rates(setup)) < 3:
        return []
    names = " and ".join(at_end)
    return [f"The best rate of {names} is an end of the sweep: a wider one may change this."]


def _at_one_rate(rows: Sequence[Row], chosen: Sequence[Row]) -> list[str]:
    """What a comparison at one rate for all would have said."""
    own = _rates(chosen)
    if {"CLS", "GAP"} - set(own) or own["CLS"] == own["GAP"]:
        return []
    found = []
    for arm in ("CLS", "GAP"):
        here = [row for row in rows if row.axes["lr"] == own[arm]]
        if {"CLS", "GAP"} <= {row.arm for row in here}:
            gap = difference(here, "CLS", "GAP", "test/top1")
            found.append(f"With the rate of {arm} for both, {in_words(gap, 'CLS', 'GAP')}.")
    return found


def _rates(chosen: Sequence[Row]) -> dict[str, Axis]:
    return {row.arm: row.axes["lr"] for row in chosen}


STUDY = Study(
    name="head",
    title="Class token, average pooling or attention pooling",
    claim=CLAIM,
    source="arXiv 2010.11929, appendix D.3",
    cells=cells,
    outcome=outcome,
    full="ViT-B/16 on ImageNet-21k; CLS, GAP and MAP at rates 3e-4 and 8e-4",
    choices={"rates": ()},
)

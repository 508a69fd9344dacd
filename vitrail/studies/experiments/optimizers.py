"""Adam or SGD for the ResNet? (arXiv 2010.11929, appendix D.1, Table 7)

The paper trains its ResNets with Adam, against the custom, and shows that this helps them: the
baseline that ViTs are compared with is not a weak one. Here the small BiT-ResNet with both, each
over its own sweep of learning rates and at its own best rate, which validation images choose.
Schedule, clipping at norm 1, augmentation, duration and seeds are the same.

Decay is decoupled for both, in units of the rate. SGD's 1e-3 is BiT's 1e-4: there the decay goes
through the momentum of 0.9, which multiplies it by ten.

Full scale: BiT-R50x1 and R152x2, 7 epochs of JFT-300M in batches of 4096, then fine-tuning on five
data sets (average: 89.33 with Adam, 88.79 with SGD; R152x2 94.01 and 93.72).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vitrail.figures.plot import Figure
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell, short
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.experiments.comparison import table, whole
from vitrail.studies.experiments.families import BIT, SGD_SETTINGS, families
from vitrail.studies.experiments.trainings import from_scratch
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import best, difference, each_arm, in_words, points
from vitrail.studies.setup import Setup

ADAM, SGD = "Adam", "SGD"
ARMS: dict[str, dict[str, Any]] = {
    ADAM: {
        "optim.name": "adamw",
        "optim.weight_decay": 0.05,
        "schedule.name": "cosine",
        "schedule.warmup": 0.05,
    },
    SGD: SGD_SETTINGS,
}
# A factor of about 3 apart, on either side of what is usual; the best should lie inside.
RATES = {ADAM: (1e-3, 3e-3, 1e-2, 3e-2), SGD: (0.03, 0.1, 0.3, 1.0)}
FULL_RATES = {ADAM: (3e-4, 6e-4, 1e-3, 2e-3), SGD: (0.12, 0.24, 0.48, 0.96)}
FULL_DECAY = 0.1  # of Adam (Table 3)
FULL_MODELS = ("bit_r50x1", "bit_r152x2")
CLAIM = (
    "ResNets pre-trained with Adam mostly transfer a little better than with SGD: on average over "
    "five data sets 89.33 against 88.79 % for R50x1, 94.01 against 93.72 % for R152x2."
)
LIMITS = (
    "The paper compares after transfer, having pre-trained on 300 million images; here one short "
    "training from scratch is evaluated, where an optimiser that is fast at the start has an edge.",
    "Each arm has a sweep of its rate alone. Momentum, the decay of weights, clipping and the "
    "schedule stay; another of these may suit one arm better.",
    "The rate is chosen on validation images, the figures are of test images; intervals are "
    "over seeds at the chosen rate, not over the choice of it.",
)


def cells(setup: Setup) -> list[Cell]:
    """Seeds x optimisers x rates; the reference model is the ResNet itself."""
    return [
        _cell(setup, model, arm, rate, seed)
        for seed in setup.seeds
        for model in _models(setup)
        for arm in ARMS
        for rate in rates(setup, arm)
    ]


def rates(setup: Setup, arm: str) -> tuple[float, ...]:
    """The sweep of an arm: what was asked for, for both arms, or its own."""
    given = setup.choices["rates"]
    return tuple(given) if given else (FULL_RATES if setup.is_full else RATES)[arm]


def _models(setup: Setup) -> list[dict[str, Any]]:
    if setup.is_full:
        return [{"model.name": name} for name in FULL_MODELS]
    return [families(setup)[BIT]]


def _cell(setup: Setup, model: dict[str, Any], arm: str, rate: float, seed: int) -> Cell:
    own = {**model, **ARMS[arm], "optim.lr": rate}
    axes: dict[str, Axis] = {"rate": rate}
    if setup.is_full:
        axes["model"] = str(model["model.name"])
        own |= {"optim.weight_decay": FULL_DECAY} if arm == ADAM else {}
    return from_scratch(setup, arm, axes, own, setup.examples, seed)


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """The sweeps, and both arms at their best rate."""
    trained = [row for row in rows if row.values]
    chosen = best(whole(trained, "rate"), choose_by="val/top1", over="rate")
    lines = points(trained, "test/top1", "rate")
    figure = Figure(
        "optimizer",
        "Top-1 of the ResNet by learning rate",
        "learning rate",
        "top-1, test images",
        each_arm(lines),
        log_x=True,
        note="Mean over seeds with its 95 % interval (Student). Rates were chosen by validation.",
    )
    tables = {
        f"Test top-1, {arm}": table(_of(trained, arm), "test/top1", "rate", "rate") for arm in lines
    }
    return Outcome(_verdict(setup, rows, chosen), [figure], tables, {"rates": _rates_of(chosen)})


def _verdict(setup: Setup, rows: Sequence[Row], chosen: Sequence[Row]) -> Verdict:
    found = _rates_of(chosen)
    evidence = []
    if ADAM in found and SGD in found:
        gap = difference(chosen, ADAM, SGD, "test/top1", besides=("rate",))
        evidence.append(f"Each at its own best rate, {in_words(gap, ADAM, SGD)}.")
    evidence += [f"Best rate of {arm} by validation: {short(rate)}." for arm, rate in found.items()]
    cautions = [*_at_end(setup, found), *_failed(rows)]
    answer = " ".join([*evidence[:1], *cautions]) if len(found) == 2 else ""
    return Verdict(
        answer=answer or "No result: too few finished runs.",
        claim=CLAIM,
        source="arXiv 2010.11929, appendix D.1, Table 7",
        evidence=evidence,
        limits=LIMITS,
    )


def _at_end(setup: Setup, found: dict[str, Axis]) -> Iterator[str]:
    """A best rate with no worse one beyond it may not be the best there is."""
    for arm, rate in found.items():
        sweep = rates(setup, arm)
        if rate in (min(sweep), max(sweep)):
            end = "lowest" if rate == min(sweep) else "highest"
            yield (
                f"The best rate of {arm} is the {end} of its sweep, so {arm} may be better than "
                "shown; repeat it with --rates that go further."
            )


def _failed(rows: Sequence[Row]) -> Iterator[str]:
    for arm in ARMS:
        places = [short(row.axes["rate"]) for row in _of(rows, arm) if not row.values]
        for rate in dict.fromkeys(places):
            yield f"{arm} at {rate}: the loss was not finite in {places.count(rate)} runs."


def _rates_of(chosen: Sequence[Row]) -> dict[str, Axis]:
    return {row.arm: row.axes["rate"] for row in chosen}


def _of(rows: Sequence[Row], arm: str) -> list[Row]:
    return [row for row in rows if row.arm == arm]


STUDY = Study(
    name="optimizer",
    title="Adam or SGD for the ResNet",
    claim=CLAIM,
    source="arXiv 2010.11929, appendix D.1",
    cells=cells,
    outcome=outcome,
    full="BiT-R50x1 and R152x2, 7 epochs of JFT-300M, then fine-tuning on five data sets",
    choices={"rates": ()},
)

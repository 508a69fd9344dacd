"""`vitrail compare`: architectures on one dataset, with learning curves.

Every model is trained on nested subsets of the training images, each cell with the same compute
(multiply-adds), several seeds. What is said of models is said of validation images; the test
images are looked at once, for the model that is recommended, to check what was promised of it.
Learning curves are fitted by error(n) = a n^-b + c (`power_law.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any, NamedTuple

from vitrail.evaluation.metrics.intervals import Z95, wilson
from vitrail.figures.plot import Figure, Series
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.cell import Cell
from vitrail.studies.engine.row import Axis, Row
from vitrail.studies.experiments.comparison import apart, table
from vitrail.studies.experiments.families import families, macs
from vitrail.studies.experiments.trainings import SMALL_TUNED, from_scratch
from vitrail.studies.results.power_law import PowerLaw, crossing, crossing_in_words, fit_points
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.summary import Point, in_words, points, series
from vitrail.studies.setup import Setup

CHOSEN_BY = "val/top1"
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
AHEAD = 8  # times the images there are: how far curves are followed
SUPPORT = 0.5  # share of resampled curves that must cross for a crossing to be told
CURVE_POINTS = 60
CLAIM = (
    "Which family is best depends on the amount of data: a ResNet with little, a ViT with much, a "
    "hybrid in between."
)


class PretrainedModel(NamedTuple):
    """Given weights: a name for people, what `vitrail.load` opens, the sha256 of weights and
    classes, multiply-adds of an image. A tuple, because study.json keeps it.
    """

    name: str
    path: str
    sha256: str
    macs: int


@dataclass(frozen=True)
class Choice:
    """The recommended model. expected: 95 % interval of the accuracy on new images, from
    validation. checked: top-1 on the test images. rivals: arms that are not clearly worse.
    """

    arm: str
    row: Row
    mean: float
    expected: tuple[float, float]
    checked: float
    checked_interval: tuple[float, float]
    num_checked: int
    rivals: tuple[str, ...]


def arms(setup: Setup) -> dict[str, dict[str, Any]]:
    """Settings by name: the small families, or the models that were named; and given weights."""
    names = setup.choices["models"]
    found = {name: {"model.name": name} for name in names} if names else families(setup)
    return found | {
        f"from {start.name}": {"start.model": start.path, "start.sha256": start.sha256}
        for start in setup.choices["starts"]
    }


def cells(setup: Setup) -> list[Cell]:
    """Seeds x sizes x models, of equal compute."""
    models = arms(setup)
    costs = {arm: macs(model, setup) for arm, model in models.items() if "model.name" in model}
    costs |= {f"from {start.name}": start.macs for start in setup.choices["starts"]}
    reference = costs[next(iter(models))]
    return [
        _cell(setup, arm, model, size, seed, reference / costs[arm])
        for seed in setup.seeds
        for size in setup.sizes
        for arm, model in models.items()
    ]


def _cell(
    setup: Setup, arm: str, model: dict[str, Any], size: int, seed: int, ratio: float
) -> Cell:
    own = {**model, "data.train_pictures": size}
    axes: dict[str, Axis] = {"pictures": size}
    examples = setup.examples * ratio
    if "start.model" not in model:
        return from_scratch(setup, arm, axes, own, examples, seed)
    settings = {**setup.base(), **own, "examples": max(1, int(examples))}
    return Cell(arm, axes, settings, seed, SMALL_TUNED)


def outcome(setup: Setup, rows: Sequence[Row]) -> Outcome:
    """Learning curves, and a recommendation with its uncertainty."""
    done = [row for row in rows if row.values]
    lines = points(done, CHOSEN_BY, "pictures")
    judged = int(done[0].values["val/n"]) if done else 0
    laws = {arm: fit_points(line, judged) for arm, line in lines.items() if len(line) > 2}
    choice = choose(setup, done)
    return Outcome(
        _verdict(setup, done, laws, choice),
        [_figure(setup, lines, laws)],
        {
            "Validation top-1 by number of training images": table(done, CHOSEN_BY, "pictures"),
            "What a model costs": _costs(done),
            "Learning curves: error(n) = a n^-b + c, on validation": _curves(setup, laws),
        },
        _facts(choice, laws, setup),
    )


def choose(setup: Setup, rows: Sequence[Row]) -> Choice | None:
    """The model with the best validation accuracy on all images, mean over seeds; of its runs
    the best on validation. None while no model has all of its runs there.
    """
    whole = [row for row in rows if row.axes["pictures"] == setup.num_train]
    names = dict.fromkeys(row.arm for row in whole)
    by_arm = {arm: [row for row in whole if row.arm == arm] for arm in names}
    full = {arm: own for arm, own in by_arm.items() if len(own) == len(setup.seeds)}
    if not full:
        return None
    means = {arm: sum(row.values[CHOSEN_BY] for row in own) / len(own) for arm, own in full.items()}
    arm = max(means, key=lambda name: means[name])
    row = max(full[arm], key=lambda one: one.values[CHOSEN_BY])
    rivals = [
        other for other in full if other != arm and not apart(whole, arm, other, CHOSEN_BY).is_clear
    ]
    num = int(row.values["test/n"])
    right = round(row.values["test/top1"] * num)
    return Choice(
        arm,
        row,
        means[arm],
        expected(full[arm], num),
        row.values["test/top1"],
        wilson(right, num),
        num,
        tuple(rivals),
    )


def expected(rows: Sequence[Row], num_new: int) -> tuple[float, float]:
    """Where the accuracy of a run of this kind on `num_new` new images will be, 95 %: what the
    number of judged images on both sides, and the seed, leave open.
    """
    shares = [row.values[CHOSEN_BY] for row in rows]
    mean = sum(shares) / len(shares)
    judged = rows[0].values["val/n"]
    seeds = sum((one - mean) ** 2 for one in shares) / max(1, len(shares) - 1)
    chance = mean * (1 - mean)
    half = Z95 * math.sqrt(chance / judged + chance / num_new + seeds * (1 + 1 / len(shares)))
    return max(0.0, mean - half), min(1.0, mean + half)


def answers_per_sec(rows: Sequence[Row], arm: str) -> float:
    """Images that a model answers a second where its cells were computed, the median of them."""
    return median(row.cost.get("answers_per_s", 0.0) for row in rows if row.arm == arm)


def _costs(rows: Sequence[Row]) -> list[list[str]]:
    head = ["", "parameters", "multiply-adds", "training of a run", "images per second"]
    body = []
    for arm in dict.fromkeys(row.arm for row in rows):
        own = [row for row in rows if row.arm == arm]
        seconds = sorted(row.cost["seconds"] for row in own)[len(own) // 2]
        values = own[0].values
        body.append(
            [
                arm,
                f"{values['parameters'] / 1e6:.2f} M",
                f"{values['macs'] / 1e6:,.0f} M",
                f"{seconds:.0f} s",
                f"{answers_per_sec(rows, arm):,.0f}",
            ]
        )
    return [head, *body]


def _curves(setup: Setup, laws: Mapping[str, PowerLaw]) -> list[list[str]]:
    """How each curve falls, what doubling the images brings, and what is not known of it."""
    head = ["", "exponent b", "floor c", f"gain of {2 * setup.num_train:,} images", "settled"]
    body = []
    for arm, law in laws.items():
        gain, low, high = law.gain(setup.num_train)
        body.append(
            [
                arm,
                f"{law.b:.2f}",
                f"{law.c:.3f}",
                f"{100 * gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})",
                "yes" if not law.notes else "no: " + " ".join(law.notes),
            ]
        )
    return [head, *body]


def _figure(setup: Setup, lines: dict[str, list[Point]], laws: dict[str, PowerLaw]) -> Figure:
    drawn = []
    for colour, (arm, line) in enumerate(lines.items()):
        drawn.append(series(arm, line, colour=colour, kind="marks"))
        if arm in laws:
            drawn.append(_curve(arm, laws[arm], setup, colour))
    return Figure(
        "learning-curves",
        "Validation top-1 over training images, and twice as many",
        "training images",
        "top-1",
        drawn,
        log_x=True,
        note="Marks: means over seeds with 95 % intervals. Curves: 1 - (a n^-b + c) with their "
        "bands; right of the last marks they are a guess.",
    )


def _curve(arm: str, law: PowerLaw, setup: Setup, colour: int) -> Series:
    first, last = setup.sizes[0], 2 * setup.num_train
    step = (last / first) ** (1 / (CURVE_POINTS - 1))
    places = [first * step**place for place in range(CURVE_POINTS)]
    low, high = law.band(places)
    return Series(
        f"{arm}, fit",
        places,
        [1 - law.at(n) for n in places],
        [1 - one for one in high],
        [1 - one for one in low],
        "fit",
        colour,
    )


def _verdict(
    setup: Setup, rows: Sequence[Row], laws: dict[str, PowerLaw], choice: Choice | None
) -> Verdict:
    limits = [
        f"Every cell had the compute of {setup.examples:,} images through the first model; a "
        "longer training can change the order.",
        "Intervals cover seeds and the number of evaluated images, not other cameras, places or "
        "times than those of these images.",
    ]
    if choice is None:
        nothing = "No recommendation: too few finished runs."
        return Verdict(nothing, CLAIM, "arXiv 2010.11929, section 4.3", [], limits)
    evidence = [*_against(setup, rows, choice), *_more(setup, laws, choice)]
    evidence += _crossings(setup, laws)
    return Verdict(_advice(rows, choice), CLAIM, "arXiv 2010.11929, section 4.3", evidence, limits)


def _advice(rows: Sequence[Row], choice: Choice) -> str:
    low, high = choice.expected
    is_inside = low <= choice.checked <= high
    parts = [
        f"Recommended: {choice.arm}; validation accuracy {choice.mean:.3f}; expected on new "
        "images: "
        f"{low:.3f} to {high:.3f}.",
        f"Checked once on {choice.num_checked:,} images not used for any choice: "
        f"{choice.checked:.3f} (95 % {choice.checked_interval[0]:.3f}-"
        f"{choice.checked_interval[1]:.3f}), {'inside' if is_inside else 'OUTSIDE'} the expected "
        "range.",
    ]
    if choice.rivals:
        names = " and ".join(choice.rivals)
        fastest = max((choice.arm, *choice.rivals), key=lambda arm: answers_per_sec(rows, arm))
        parts.append(
            f"No significant difference to {names}; {fastest} is the fastest of these "
            f"({answers_per_sec(rows, fastest):,.0f} images per second)."
        )
    return " ".join(parts)


def _against(setup: Setup, rows: Sequence[Row], choice: Choice) -> list[str]:
    whole = [row for row in rows if row.axes["pictures"] == setup.num_train]
    others = [arm for arm in dict.fromkeys(row.arm for row in whole) if arm != choice.arm]
    return [
        f"With all {setup.num_train:,} images, "
        f"{in_words(apart(whole, choice.arm, other, CHOSEN_BY), choice.arm, other)}."
        for other in others
    ]


def _more(setup: Setup, laws: dict[str, PowerLaw], choice: Choice) -> list[str]:
    """What doubling the images would bring."""
    if choice.arm not in laws:
        return []
    gain, low, high = laws[choice.arm].gain(setup.num_train)
    return [
        f"Doubling the dataset to {2 * setup.num_train:,} images: about {100 * gain:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}) for {choice.arm} (extrapolated)."
    ]


def _crossings(setup: Setup, laws: dict[str, PowerLaw]) -> list[str]:
    """Where one model overtakes another, up to AHEAD times the images there are."""
    low, high = setup.sizes[0], AHEAD * setup.num_train
    pairs = list(combinations(laws, 2))
    found = {pair: crossing(laws[pair[0]], laws[pair[1]], low, high) for pair in pairs}
    said = [
        f"{crossing_in_words(one, *pair)}."
        for pair, one in found.items()
        if one.n is not None and one.share >= SUPPORT
    ]
    if len(said) < len(pairs):
        which = "any two" if not said else "any other two"
        said.append(f"No well supported crossing of {which} up to {high:,} images.")
    return said


def _facts(choice: Choice | None, laws: dict[str, PowerLaw], setup: Setup) -> dict[str, Any]:
    curves = {
        arm: {"a": law.a, "b": law.b, "c": law.c, "gain_of_doubling": law.gain(setup.num_train)}
        for arm, law in laws.items()
    }
    if choice is None:
        return {"choice": None, "curves": curves}
    return {
        "choice": {
            "model": choice.arm,
            "run": choice.row.run,
            "val/top1": choice.mean,
            "expected": choice.expected,
            "test/top1": choice.checked,
            "test/top1_interval": choice.checked_interval,
            "test/n": choice.num_checked,
            "not_told_apart_from": choice.rivals,
        },
        "curves": curves,
    }


STUDY = Study(
    name="compare",
    verb="compare",
    judged_by="val/top1",
    title="Which model for these images",
    claim=CLAIM,
    source="arXiv 2010.11929, section 4.3",
    cells=cells,
    outcome=outcome,
    full="the named models at their own size: --models vit_b16,bit_r50x1,r50_vit_b16",
    choices={"models": (), "starts": ()},
    has_sizes=True,
)
